// SPDX-License-Identifier: MIT OR Apache-2.0
// A virtio device, without the transport by which the guest reaches it.
#ifndef GMEM_TOOLS_MINIVMM_VIRTIO_DEVICE_H_
#define GMEM_TOOLS_MINIVMM_VIRTIO_DEVICE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "gmem/vhost/virtqueue.h"

namespace minivmm {

// The transport makes one call at a time.
class VirtioDevice {
 public:
  VirtioDevice() = default;
  VirtioDevice(const VirtioDevice&) = delete;
  VirtioDevice& operator=(const VirtioDevice&) = delete;
  virtual ~VirtioDevice() = default;

  // The number of the device type (virtio 1.3, 5).
  virtual uint32_t id() const = 0;
  // Bits of the device type. The transport adds those of rings and of its own.
  virtual uint64_t features() const = 0;
  // Virtqueues, always the same number.
  virtual uint16_t nr_queues() const = 0;
  // The configuration space. The driver can't write to it.
  virtual std::vector<uint8_t> config() const = 0;

  // The driver's choice of features(); 0 after a reset.
  virtual void SetFeatures(uint64_t features) = 0;
  // Takes chains and pushes them before it returns. It may leave some: as long as a call pops one,
  // another call follows. An error, or a rule that the driver broke, ends all work until a reset.
  virtual absl::Status Serve(gmem::vhost::Virtqueue& queue) = 0;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_VIRTIO_DEVICE_H_
