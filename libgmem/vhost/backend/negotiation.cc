// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/negotiation.h"

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::backend_internal {
namespace {

using internal::CheckError;

// The library implements these for every device.
constexpr uint64_t kFeatures = Bit(VirtioFeature::kLogAll) | Bit(VirtioFeature::kIndirectDesc) |
                               Bit(VirtioFeature::kEventIdx) |
                               Bit(VirtioFeature::kProtocolFeatures) |
                               Bit(VirtioFeature::kVersion1) | Bit(VirtioFeature::kIommuPlatform) |
                               Bit(VirtioFeature::kRingPacked);
constexpr uint64_t kProtocolFeatures =
    Bit(ProtocolFeature::kMq) | Bit(ProtocolFeature::kLogShmfd) | Bit(ProtocolFeature::kReplyAck) |
    Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kBackendSendFd) |
    Bit(ProtocolFeature::kInflightShmfd) | Bit(ProtocolFeature::kResetDevice) |
    Bit(ProtocolFeature::kInbandNotifications) | Bit(ProtocolFeature::kConfigureMemSlots) |
    Bit(ProtocolFeature::kStatus) | Bit(ProtocolFeature::kGpaAddresses);
// A device may add these, see Device::protocol_features().
constexpr uint64_t kDeviceProtocolFeatures =
    Bit(ProtocolFeature::kRarp) | Bit(ProtocolFeature::kNetMtu) |
    Bit(ProtocolFeature::kCryptoSession) | Bit(ProtocolFeature::kHostNotifier) |
    Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kDeviceState) |
    Bit(ProtocolFeature::kPagefault) | Bit(ProtocolFeature::kGetVringBaseInflight);

absl::Status CheckOffered(const char* request, uint64_t features, uint64_t offered) {
  if ((features & ~offered) == 0) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat(request, " to 0x", absl::Hex(features), ": only 0x",
                                         absl::Hex(offered), " are offered"));
}

}  // namespace

uint64_t Negotiation::offered_features() const { return kFeatures | device_.features(); }

uint64_t Negotiation::offered_protocol_features() const {
  uint64_t features = kProtocolFeatures;
  features |= device_.protocol_features() & kDeviceProtocolFeatures;
  if (device_.config_size() > 0) features |= Bit(ProtocolFeature::kConfig);
  if (!device_.shmem_sizes().empty()) features |= Bit(ProtocolFeature::kShmemMap);
  return features;
}

absl::Status Negotiation::SetFeatures(uint64_t features, bool has_started) {
  GMEM_RETURN_IF_ERROR(CheckOffered("SET_FEATURES", features, offered_features()));
  // The log begins and ends while virtqueues work.
  if (has_started && ((features ^ features_) & ~Bit(VirtioFeature::kLogAll)) != 0) {
    return CheckError(EBUSY, absl::StrCat("SET_FEATURES to 0x", absl::Hex(features),
                                          " while virtqueues work: stop them first"));
  }
  features_ = features;
  return absl::OkStatus();
}

absl::Status Negotiation::SetProtocolFeatures(uint64_t features, bool has_started) {
  GMEM_RETURN_IF_ERROR(
      CheckOffered("SET_PROTOCOL_FEATURES", features, offered_protocol_features()));
  const uint64_t needed = Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kReplyAck);
  if ((features & Bit(ProtocolFeature::kInbandNotifications)) != 0 &&
      (features & needed) != needed) {
    return CheckError(EINVAL, "INBAND_NOTIFICATIONS needs BACKEND_REQ and REPLY_ACK");
  }
  if ((features & Bit(ProtocolFeature::kGetVringBaseInflight)) != 0 &&
      (features & Bit(ProtocolFeature::kInflightShmfd)) == 0) {
    return CheckError(EINVAL, "GET_VRING_BASE_INFLIGHT needs INFLIGHT_SHMFD");
  }
  if (has_started && ((features ^ protocol_features_) & Bit(ProtocolFeature::kGpaAddresses)) != 0) {
    return CheckError(EBUSY,
                      "the meaning of addresses can't change while virtqueues work: stop them "
                      "first");
  }
  protocol_features_ = features;
  return absl::OkStatus();
}

absl::Status Negotiation::Require(ProtocolFeature feature) const {
  if (has(feature)) return absl::OkStatus();
  return CheckError(EOPNOTSUPP, absl::StrCat("a request whose protocol feature ",
                                             static_cast<unsigned>(feature), " wasn't negotiated"));
}

}  // namespace gmem::vhost::backend_internal
