// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/agreement.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

struct Dependency {
  ProtocolFeature feature;
  uint64_t needs;
};

// A feature stands after those that it needs. Frontend::Negotiate() documents them.
constexpr std::array<Dependency, 7> kDependencies = {{
    {ProtocolFeature::kBackendSendFd, Bit(ProtocolFeature::kBackendReq)},
    {ProtocolFeature::kInbandNotifications,
     Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kReplyAck)},
    {ProtocolFeature::kHostNotifier,
     Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kBackendSendFd)},
    {ProtocolFeature::kShmemMap,
     Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kBackendSendFd)},
    {ProtocolFeature::kSharedObject, Bit(ProtocolFeature::kBackendReq)},
    {ProtocolFeature::kGetVringBaseInflight, Bit(ProtocolFeature::kInflightShmfd)},
    // The answer to POSTCOPY_LISTEN is an acknowledgement.
    {ProtocolFeature::kPagefault, Bit(ProtocolFeature::kReplyAck)},
}};

uint64_t WithoutOrphans(uint64_t features) {
  for (const Dependency& dependency : kDependencies) {
    if ((features & dependency.needs) != dependency.needs) features &= ~Bit(dependency.feature);
  }
  return features;
}

}  // namespace

absl::Status Agreement::Reach(bool like_before) {
  GMEM_ASSIGN_OR_RETURN(offered_, session_.Call<FrontendRequest::kGetFeatures>());
  protocol_features_ = 0;
  queue_num_ = 1;
  max_slots_ = kMaxTableRegions;
  const std::optional<uint64_t> exactly = like_before ? first_ : std::nullopt;
  if (has_protocol_features()) {
    GMEM_RETURN_IF_ERROR(SetProtocolFeatures(exactly));
  } else if (exactly.value_or(0) != 0) {
    return absl::FailedPreconditionError(
        "the back-end has no protocol features; the previous back-end had");
  }
  return AskLimits();
}

absl::Status Agreement::SetProtocolFeatures(std::optional<uint64_t> exactly) {
  GMEM_ASSIGN_OR_RETURN(const uint64_t offered,
                        session_.Call<FrontendRequest::kGetProtocolFeatures>());
  const uint64_t features =
      exactly.value_or(WithoutOrphans(offered & wanted_ & Frontend::kKnownProtocolFeatures));
  if ((features & ~offered) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("the back-end lacks the protocol features 0x",
                                                      absl::Hex(features & ~offered),
                                                      ", which the previous back-end had"));
  }
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetProtocolFeatures>(features));
  protocol_features_ = features;
  session_.set_reply_ack(Has(ProtocolFeature::kReplyAck));
  return absl::OkStatus();
}

absl::Status Agreement::AskLimits() {
  if (Has(ProtocolFeature::kMq)) {
    GMEM_ASSIGN_OR_RETURN(queue_num_, session_.Call<FrontendRequest::kGetQueueNum>());
    if (queue_num_ == 0) return CheckError(EBADMSG, "the back-end has no virtqueues");
    // A caller may allocate something for each of them.
    queue_num_ = std::min<uint64_t>(queue_num_, kMaxQueues);
  }
  if (!Has(ProtocolFeature::kConfigureMemSlots)) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(const uint64_t slots, session_.Call<FrontendRequest::kGetMaxMemSlots>());
  // The VMM has built the guest's memory upon the first back-end's limit.
  if (slots < min_slots_) {
    return absl::FailedPreconditionError(absl::StrCat("the back-end takes ", slots,
                                                      " regions of memory, the previous back-end ",
                                                      min_slots_, ": it must not take fewer"));
  }
  max_slots_ = static_cast<size_t>(std::min<uint64_t>(slots, kMaxMemorySlots));
  min_slots_ = max_slots_;
  return absl::OkStatus();
}

void Agreement::Conclude() {
  is_concluded_ = true;
  first_ = protocol_features_;
}

absl::Status Agreement::Need(ProtocolFeature feature, absl::string_view request) const {
  if (Has(feature)) return absl::OkStatus();
  return CheckError(
      EOPNOTSUPP, absl::StrCat(request, " needs protocol feature ", static_cast<unsigned>(feature),
                               ", which isn't negotiated"));
}

uint64_t Agreement::features() const {
  const bool can_translate = Has(ProtocolFeature::kBackendReq) && Has(ProtocolFeature::kReplyAck);
  return offered_ & ~Bit(VirtioFeature::kProtocolFeatures) &
         ~(can_translate ? 0 : Bit(VirtioFeature::kIommuPlatform));
}

absl::Status Agreement::SendFeatures(uint64_t features) {
  // Once the protocol's bit is set, virtqueues start disabled.
  const uint64_t protocol = offered_ & Bit(VirtioFeature::kProtocolFeatures);
  // The caller counts on a log that has every later write.
  const bool logs = (features & Bit(VirtioFeature::kLogAll)) != 0;
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetFeatures>(
      features | protocol, {}, logs ? Session::Confirm::kAlways : Session::Confirm::kIfAcked));
  acked_ = features;
  return absl::OkStatus();
}

}  // namespace gmem::vhost::frontend_internal
