// SPDX-License-Identifier: MIT OR Apache-2.0
// The parts of one session with a front-end; this header has no behaviour. Not installed.
#ifndef GMEM_VHOST_BACKEND_PARTS_H_
#define GMEM_VHOST_BACKEND_PARTS_H_

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/inflight.h"
#include "vhost/backend/channel.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/memory.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/poller.h"
#include "vhost/backend/postcopy.h"
#include "vhost/backend/queue_threads.h"
#include "vhost/backend/state_transfer.h"
#include "vhost/backend/vring_set.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// A part knows only the parts before it.
struct Parts {
  Parts(Backend& backend, Device& device, std::unique_ptr<Lanes> lanes_of_device,
        absl::Duration timeout)
      : backend(backend),
        device(device),
        lanes(std::move(lanes_of_device)),
        poller(lanes->session()),
        negotiation(device),
        channel(poller, timeout),
        memory(negotiation),
        state(device, poller, timeout),
        vrings({.backend = backend,
                .device = device,
                .lanes = *lanes,
                .negotiation = negotiation,
                .memory = memory,
                .inflight = inflight,
                .channel = channel}),
        threads(*lanes, vrings) {}
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  // For the device's methods.
  Backend& backend;
  Device& device;
  const std::unique_ptr<Lanes> lanes;
  // The session's own.
  Poller& poller;
  Negotiation negotiation;
  BackendChannel channel;
  SessionMemory memory;
  Postcopy postcopy;
  StateTransfer state;
  InflightBuffer inflight;
  VringSet vrings;
  QueueThreads threads;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_PARTS_H_
