// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_NET_DEVICE_H_
#define GMEM_TOOLS_VHOST_NET_DEVICE_H_

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/virtqueue.h"
#include "net_link.h"

// A virtio network device (virtio 1.3, 5.1) with one link for each pair of queues.
//
// A receive queue costs nothing while no frame comes: the device leaves the driver's buffers in the
// ring, and waits for the link. If a frame comes and there are too few buffers, the device keeps
// this one frame, stops waiting for the link, and goes on at the driver's next kick.
//
// The virtqueues may have threads: what the calls for virtqueues change belongs to one pair, except
// for the number of pairs in use.
class NetDevice : public gmem::vhost::Device {
 public:
  using Mac = std::array<uint8_t, 6>;
  // The form is "52:54:00:12:34:56". No value if @text isn't an address of one station.
  static std::optional<Mac> ParseMac(absl::string_view text);

  NetDevice(std::vector<NetLink> links, std::optional<Mac> mac);

  uint64_t features() const override;
  uint16_t nr_queues() const override { return static_cast<uint16_t>(2 * pairs_.size() + 1); }
  uint32_t config_size() const override;
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override;
  void SetFeatures(uint64_t features) override;

  void Connected(gmem::vhost::Backend& backend) override { backend_ = &backend; }
  void Disconnected() override { backend_ = nullptr; }
  // A pair has a thread, and the control queue has one.
  uint16_t QueueThread(uint16_t index) const override { return index / 2; }
  void QueueStarted(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void QueueStopped(uint16_t index) override;
  void QueueFailed(uint16_t index, const absl::Status& why) override;
  bool IsReceiveQueue(uint16_t index) const override { return IsPair(index) && index % 2 == 0; }
  absl::Status HandleQueue(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  absl::Status HandleDisabledQueue(gmem::vhost::Backend& backend,
                                   gmem::vhost::Virtqueue& queue) override;

 private:
  struct Pair {
    explicit Pair(NetLink its_link) : link(std::move(its_link)) {}
    NetLink link;
    // The frame that waits for buffers, with its header; of size 0 if there is none.
    std::vector<uint8_t> frame;
    size_t frame_size = 0;
    bool has_ended = false;
    // Does the back-end wait for the link?
    bool is_watched = false;
    // Memory that stays, so that a frame needs no allocation.
    std::vector<gmem::vhost::Chain> chains;
    gmem::vhost::Chain sent;
    std::vector<iovec> pieces;
  };

  // The control queue's place depends on whether the driver knows more than one pair.
  uint16_t control_index() const { return static_cast<uint16_t>(2 * nr_known_); }
  bool IsPair(uint16_t index) const { return index < control_index(); }
  gmem::vhost::Virtqueue* ReceiveQueue(size_t pair) const;

  // Moves frames from the link to the receive queue, and waits for the next ones if there is room.
  void Receive(size_t pair);
  // False if there are too few buffers.
  bool Deliver(Pair& pair, gmem::vhost::Virtqueue& queue) const;
  void StopReceiving(size_t pair);
  void Unwatch(size_t pair);
  static void Send(Pair& pair);
  // Returns the answer to a command of the driver.
  uint8_t Control(const gmem::vhost::Chain& chain);

  std::vector<Pair> pairs_;
  const std::optional<Mac> mac_;
  gmem::vhost::Backend* backend_ = nullptr;
  // The features that the links have been set up for.
  std::optional<uint64_t> features_;
  // The pairs that the driver knows, and those that it uses.
  size_t nr_known_ = 1;
  std::atomic<size_t> nr_used_ = 1;
  bool is_mergeable_ = false;
  // Has a header the number of buffers?
  bool has_nr_buffers_ = true;
  gmem::vhost::Chain command_;
};

#endif  // GMEM_TOOLS_VHOST_NET_DEVICE_H_
