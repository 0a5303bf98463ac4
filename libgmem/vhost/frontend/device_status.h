// SPDX-License-Identifier: MIT OR Apache-2.0
// The device status of virtio. Not installed.
#ifndef GMEM_VHOST_FRONTEND_DEVICE_STATUS_H_
#define GMEM_VHOST_FRONTEND_DEVICE_STATUS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Reads and writes the status, and remembers whether the driver is ready.
class DeviceStatusRegister {
 public:
  DeviceStatusRegister(Session& session, const Agreement& agreement)
      : session_(session), agreement_(agreement) {}
  DeviceStatusRegister(const DeviceStatusRegister&) = delete;
  DeviceStatusRegister& operator=(const DeviceStatusRegister&) = delete;

  absl::StatusOr<uint8_t> Get();
  absl::Status Set(uint8_t status);
  // Sets FEATURES_OK. FailedPrecondition if the device doesn't keep it: it doesn't take @features.
  absl::Status ConfirmFeatures(uint64_t features);
  // Sets ACKNOWLEDGE, DRIVER and DRIVER_OK.
  absl::Status SetDriverOk();

  bool is_driver_ok() const { return is_driver_ok_; }
  void set_driver_ok(bool is_driver_ok) { is_driver_ok_ = is_driver_ok; }

 private:
  // Sets @bits besides those that are set.
  absl::Status Add(uint8_t bits);

  Session& session_;
  const Agreement& agreement_;
  bool is_driver_ok_ = false;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_DEVICE_STATUS_H_
