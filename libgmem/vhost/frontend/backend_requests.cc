// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/backend_requests.h"

#include <cerrno>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_channel.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/host_notifiers.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

absl::Status CheckIndex(const VringState& vring) {
  if (vring.index < kMaxQueues) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("there is no virtqueue ", vring.index));
}

}  // namespace

template <BackendRequest kRequest, auto kMethod>
BackendChannel::Outcome BackendRequests::Decode(BackendRequests& self, Message& message) {
  using Payload = typename RequestTraits<kRequest>::Payload;
  const auto payload = FromBytes<Payload>(message.bytes());
  using Method = decltype(kMethod);
  if constexpr (std::is_invocable_v<Method, BackendRequests&, const Payload&, FdList&>) {
    return {.status = (self.*kMethod)(payload, message.fds)};
  } else if constexpr (std::is_invocable_r_v<Outcome, Method, BackendRequests&, const Payload&>) {
    return (self.*kMethod)(payload);
  } else {
    return {.status = (self.*kMethod)(payload)};
  }
}

const BackendRequests::Entry* BackendRequests::Find(BackendRequest request) {
  using R = BackendRequest;
  using Self = BackendRequests;
  static constexpr Entry kEntries[] = {
      // There is no channel without kBackendReq; Translate() knows the feature that it needs.
      {R::kIotlbMsg, ProtocolFeature::kBackendReq, &Decode<R::kIotlbMsg, &Self::Translate>},
      {R::kConfigChangeMsg, ProtocolFeature::kConfig,
       &Decode<R::kConfigChangeMsg, &Self::ChangeConfig>},
      {R::kVringHostNotifierMsg, ProtocolFeature::kHostNotifier,
       &Decode<R::kVringHostNotifierMsg, &Self::SetHostNotifier>},
      {R::kVringCall, ProtocolFeature::kInbandNotifications,
       &Decode<R::kVringCall, &Self::CallVring>},
      {R::kVringErr, ProtocolFeature::kInbandNotifications,
       &Decode<R::kVringErr, &Self::BreakVring>},
      {R::kSharedObjectAdd, ProtocolFeature::kSharedObject,
       &Decode<R::kSharedObjectAdd, &Self::AddObject>},
      {R::kSharedObjectRemove, ProtocolFeature::kSharedObject,
       &Decode<R::kSharedObjectRemove, &Self::RemoveObject>},
      {R::kSharedObjectLookup, ProtocolFeature::kSharedObject,
       &Decode<R::kSharedObjectLookup, &Self::LookUpObject>},
      {R::kShmemMap, ProtocolFeature::kShmemMap, &Decode<R::kShmemMap, &Self::MapShmem>},
      {R::kShmemUnmap, ProtocolFeature::kShmemMap, &Decode<R::kShmemUnmap, &Self::UnmapShmem>},
  };
  for (const Entry& entry : kEntries) {
    if (entry.request == request) return &entry;
  }
  return nullptr;
}

BackendChannel::Outcome BackendRequests::Handle(Message& message) {
  const auto request = static_cast<BackendRequest>(message.header.request);
  const Entry* const entry = Find(request);
  if (entry == nullptr) {
    return {.status = CheckError(EOPNOTSUPP, absl::StrCat(Name(request), " has no handler"))};
  }
  absl::Status status = parts_.agreement.Need(entry->needs, Name(request));
  if (!status.ok()) return {.status = std::move(status)};
  return entry->handle(*this, message);
}

absl::Status BackendRequests::Translate(const IotlbMessage& message) {
  if (!parts_.agreement.HasAcked(VirtioFeature::kIommuPlatform)) {
    return CheckError(EOPNOTSUPP, "IOTLB_MSG needs VIRTIO_F_IOMMU_PLATFORM, which isn't set");
  }
  if (message.type != IotlbType::kMiss && message.type != IotlbType::kAccessFail) {
    return CheckError(EINVAL, absl::StrCat("a back-end may not send an IOTLB message of type ",
                                           static_cast<int>(message.type)));
  }
  return parts_.handler.OnIotlb(message);
}

absl::Status BackendRequests::ChangeConfig(const Empty& /*empty*/) {
  return parts_.handler.OnConfigChange();
}

absl::Status BackendRequests::SetHostNotifier(const VringArea& area, FdList& fds) {
  const auto index = static_cast<unsigned>(area.vring & kVringIndexMask);
  if ((area.vring & kVringNoFd) != 0) return parts_.notifiers.Remove(index);
  return parts_.notifiers.Set(index, fds.Take(0), area);
}

absl::Status BackendRequests::CallVring(const VringState& vring) {
  GMEM_RETURN_IF_ERROR(CheckIndex(vring));
  return parts_.handler.OnVringCall(vring.index);
}

absl::Status BackendRequests::BreakVring(const VringState& vring) {
  GMEM_RETURN_IF_ERROR(CheckIndex(vring));
  return parts_.handler.OnVringErr(vring.index);
}

// Asks for the object's descriptor at once, so that a back-end that looks the object up never waits
// for another back-end. The descriptor arrives with the owner's answer, unless the object is
// removed before.
absl::Status BackendRequests::AddObject(const Uuid& uuid) {
  if (parts_.memory.is_unacknowledged()) {
    return CheckError(EBUSY, "no object can be asked for before the memory table is acknowledged");
  }
  if (parts_.session.is_full()) {
    return CheckError(ENOMEM, "too many requests wait for the back-end");
  }
  GMEM_ASSIGN_OR_RETURN(std::shared_ptr<UniqueFd> object, parts_.objects->Add(uuid, parts_.owner));
  parts_.session.Start<FrontendRequest::kGetSharedObject>(
      uuid, [object = std::move(object)](absl::StatusOr<Message*> reply) {
        if (reply.ok()) *object = (*reply)->fds.Take(0);
      });
  return absl::OkStatus();
}

absl::Status BackendRequests::RemoveObject(const Uuid& uuid) const {
  return parts_.objects->Remove(uuid, parts_.owner);
}

BackendChannel::Outcome BackendRequests::LookUpObject(const Uuid& uuid) const {
  const int fd = parts_.objects->Find(uuid);
  if (fd < 0) return {.status = CheckError(ENOENT, "there is no such object, or not yet")};
  return {.status = absl::OkStatus(), .fd = fd};
}

absl::Status BackendRequests::MapShmem(const ShmemMapping& mapping, FdList& fds) {
  return parts_.shmem.Map(mapping, fds.get(0));
}

absl::Status BackendRequests::UnmapShmem(const ShmemMapping& mapping) {
  return parts_.shmem.Unmap(mapping);
}

absl::Status BackendRequests::UnmapAll() {
  parts_.notifiers.RemoveAll();
  return parts_.shmem.UnmapAll();
}

// Unmaps everything, because the back-end has no channel left to ask for that.
void BackendRequests::OnChannelClosed() {
  UnmapAll().IgnoreError();
  if (parts_.objects != nullptr) parts_.objects->RemoveAll(parts_.owner);
}

}  // namespace gmem::vhost::frontend_internal
