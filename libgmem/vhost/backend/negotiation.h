// SPDX-License-Identifier: MIT OR Apache-2.0
// The choices of the driver and the front-end. Not installed.
#ifndef GMEM_VHOST_BACKEND_NEGOTIATION_H_
#define GMEM_VHOST_BACKEND_NEGOTIATION_H_

#include <cstdint>

#include "absl/status/status.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The features that the library and the device offer, the ones that the front-end has accepted, and
// the device status (virtio 1.3, 2.1).
class Negotiation {
 public:
  // @device must outlive this object.
  explicit Negotiation(const Device& device) : device_(device) {}
  Negotiation(const Negotiation&) = delete;
  Negotiation& operator=(const Negotiation&) = delete;

  uint64_t offered_features() const;
  uint64_t offered_protocol_features() const;

  uint64_t features() const { return features_; }
  bool has(VirtioFeature feature) const { return (features_ & Bit(feature)) != 0; }
  bool has(ProtocolFeature feature) const { return (protocol_features_ & Bit(feature)) != 0; }

  // @has_started: does a virtqueue work? Then only some features may change. InvalidArgument
  // (EINVAL) for features that aren't offered, FailedPrecondition (EBUSY) for those that can't
  // change now.
  absl::Status SetFeatures(uint64_t features, bool has_started);
  absl::Status SetProtocolFeatures(uint64_t features, bool has_started);

  // Unimplemented (EOPNOTSUPP) for a request whose protocol feature wasn't negotiated.
  absl::Status Require(ProtocolFeature feature) const;

  uint8_t device_status() const { return device_status_; }
  void set_device_status(uint8_t status) { device_status_ = status; }
  // Asks the driver to reset the device, after an error.
  void RequestReset() { device_status_ |= static_cast<uint8_t>(DeviceStatus::kNeedsReset); }

 private:
  const Device& device_;
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
  uint8_t device_status_ = 0;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_NEGOTIATION_H_
