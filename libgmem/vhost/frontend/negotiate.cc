// SPDX-License-Identifier: Apache-2.0
// What front-end and back-end agree on first, and again after a restart.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

struct Dependency {
  ProtocolFeature feature;
  uint64_t needs;
};

// A feature comes behind those that it needs.
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

absl::Status Frontend::Negotiate() {
  const Deadline deadline(*this);
  if (is_negotiated_) return absl::FailedPreconditionError("Negotiate() is for once");
  absl::Status status = NegotiateProtocol(std::nullopt);
  if (absl::IsDataLoss(status)) End(status);
  return status;
}

// @exactly: those that were negotiated before.
absl::Status Frontend::NegotiateProtocol(std::optional<uint64_t> exactly) {
  GMEM_ASSIGN_OR_RETURN(offered_features_, Call<FrontendRequest::kGetFeatures>());
  protocol_features_ = 0;
  queue_num_ = 1;
  max_slots_ = kMaxTableRegions;
  if ((offered_features_ & Bit(VirtioFeature::kProtocolFeatures)) != 0) {
    GMEM_ASSIGN_OR_RETURN(const uint64_t offered, Call<FrontendRequest::kGetProtocolFeatures>());
    const uint64_t features = exactly.value_or(
        WithoutOrphans(offered & options_.protocol_features & kKnownProtocolFeatures));
    if ((features & ~offered) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("the back-end lacks the protocol features 0x",
                       absl::Hex(features & ~offered), ", which the one before had"));
    }
    GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetProtocolFeatures>(features));
    protocol_features_ = features;
    main_->set_reply_ack(Has(ProtocolFeature::kReplyAck));
  } else if (exactly.value_or(0) != 0) {
    return absl::FailedPreconditionError(
        "the back-end has no protocol features; the one before had");
  }
  GMEM_RETURN_IF_ERROR(AskLimits());
  if (Has(ProtocolFeature::kBackendReq)) GMEM_RETURN_IF_ERROR(OpenBackendChannel());
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetOwner>());
  if (Has(ProtocolFeature::kShmemMap)) GMEM_RETURN_IF_ERROR(MakeShmem());
  is_negotiated_ = true;
  agreed_ = protocol_features_;
  return absl::OkStatus();
}

absl::Status Frontend::AskLimits() {
  if (Has(ProtocolFeature::kMq)) {
    GMEM_ASSIGN_OR_RETURN(queue_num_, Call<FrontendRequest::kGetQueueNum>());
    if (queue_num_ == 0) return CheckError(EBADMSG, "the back-end has no virtqueues");
  }
  if (Has(ProtocolFeature::kConfigureMemSlots)) {
    GMEM_ASSIGN_OR_RETURN(const uint64_t slots, Call<FrontendRequest::kGetMaxMemSlots>());
    // The VMM has built the guest's memory upon what was said first.
    if (slots < min_slots_) {
      return absl::FailedPreconditionError(absl::StrCat("the back-end takes ", slots,
                                                        " regions of memory, the one before ",
                                                        min_slots_, ": it may not be less"));
    }
    max_slots_ = static_cast<size_t>(std::min<uint64_t>(slots, kMaxMemorySlots));
    min_slots_ = max_slots_;
  }
  return absl::OkStatus();
}

absl::Status Frontend::MakeShmem() {
  GMEM_ASSIGN_OR_RETURN(const ShmemConfig config, Call<FrontendRequest::kGetShmemConfig>());
  {
    const Busy busy(*this);
    GMEM_RETURN_IF_ERROR(shmem_.Configure(config));
  }
  // The factory may have closed the connection.
  return status();
}

absl::Status Frontend::OpenBackendChannel() {
  // It may have ended behind the last answer.
  GMEM_RETURN_IF_ERROR(status());
  // Of a Negotiate() that failed.
  EndBackendChannel(absl::OkStatus());
  // A handler may have closed it.
  GMEM_RETURN_IF_ERROR(status());
  GMEM_ASSIGN_OR_RETURN(auto pair, Connection::Pair());
  const int theirs = pair.second.get();
  backend_ = std::make_unique<Responder>(std::move(pair.first), Responder::Side::kBackend);
  backend_->set_reply_ack(Has(ProtocolFeature::kReplyAck));
  backend_events_ = 0;
  return Do<FrontendRequest::kSetBackendReqFd>({}, absl::MakeConstSpan(&theirs, 1));
}

uint64_t Frontend::features() const {
  const bool can_translate = Has(ProtocolFeature::kBackendReq) && Has(ProtocolFeature::kReplyAck);
  return offered_features_ & ~Bit(VirtioFeature::kProtocolFeatures) &
         ~(can_translate ? 0 : Bit(VirtioFeature::kIommuPlatform));
}

absl::Status Frontend::SetFeatures(uint64_t features) {
  const Deadline deadline(*this);
  if ((features & ~this->features()) != 0) {
    return CheckError(EINVAL, absl::StrCat("the device doesn't offer the features 0x",
                                           absl::Hex(features & ~this->features())));
  }
  // A driver that starts anew during a migration doesn't know of the log.
  const uint64_t log = log_fd_.is_valid() ? Bit(VirtioFeature::kLogAll) : 0;
  GMEM_RETURN_IF_ERROR(SendFeatures(features | log));
  if (!Has(ProtocolFeature::kStatus)) return absl::OkStatus();

  const auto ok = static_cast<uint8_t>(DeviceStatus::kFeaturesOk);
  GMEM_RETURN_IF_ERROR(AddStatus(ok));
  GMEM_ASSIGN_OR_RETURN(const uint8_t status, GetStatus());
  if ((status & ok) != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the device doesn't take the features 0x", absl::Hex(features)));
}

absl::Status Frontend::SendFeatures(uint64_t features) {
  // With these set, virtqueues start disabled.
  const uint64_t protocol = offered_features_ & Bit(VirtioFeature::kProtocolFeatures);
  // Nothing is written unlogged after this returns.
  const bool logs = (features & Bit(VirtioFeature::kLogAll)) != 0;
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetFeatures>(
      features | protocol, {}, logs ? Confirm::kAlways : Confirm::kIfAcked));
  acked_features_ = features;
  has_features_ = true;
  return absl::OkStatus();
}

}  // namespace gmem::vhost
