// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/device_status.h"

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

constexpr auto kDriverOk = static_cast<uint8_t>(DeviceStatus::kDriverOk);
constexpr auto kFeaturesOk = static_cast<uint8_t>(DeviceStatus::kFeaturesOk);
constexpr uint8_t kRunning = static_cast<uint8_t>(DeviceStatus::kAcknowledge) |
                             static_cast<uint8_t>(DeviceStatus::kDriver) | kDriverOk;

}  // namespace

absl::StatusOr<uint8_t> DeviceStatusRegister::Get() {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kStatus, "GET_STATUS"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t status, session_.Call<FrontendRequest::kGetStatus>());
  if (status > UINT8_MAX) {
    return internal::CheckError(
        EIO, absl::StrCat("the back-end's status 0x", absl::Hex(status), " has more than 8 bits"));
  }
  return static_cast<uint8_t>(status);
}

absl::Status DeviceStatusRegister::Set(uint8_t status) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kStatus, "SET_STATUS"));
  // Status 0 is a reset, which is over when this returns.
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetStatus>(
      status, {}, status == 0 ? Session::Confirm::kAlways : Session::Confirm::kIfAcked));
  is_driver_ok_ = (status & kDriverOk) != 0;
  return absl::OkStatus();
}

absl::Status DeviceStatusRegister::Add(uint8_t bits) {
  GMEM_ASSIGN_OR_RETURN(const uint8_t status, Get());
  if ((status & bits) == bits) return absl::OkStatus();
  return Set(status | bits);
}

absl::Status DeviceStatusRegister::ConfirmFeatures(uint64_t features) {
  GMEM_RETURN_IF_ERROR(Add(kFeaturesOk));
  GMEM_ASSIGN_OR_RETURN(const uint8_t status, Get());
  if ((status & kFeaturesOk) != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the device doesn't take the features 0x", absl::Hex(features)));
}

absl::Status DeviceStatusRegister::SetDriverOk() {
  GMEM_RETURN_IF_ERROR(Add(kRunning));
  is_driver_ok_ = true;
  return absl::OkStatus();
}

}  // namespace gmem::vhost::frontend_internal
