// SPDX-License-Identifier: Apache-2.0
// What the back-end asks of the front-end.
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"
#include "gmem/vhost/shared_objects.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

absl::Status Refused() { return CheckError(EOPNOTSUPP, "nobody handles this request"); }

}  // namespace

absl::Status FrontendHandler::OnIotlb(const IotlbMessage& /*message*/) { return Refused(); }
absl::Status FrontendHandler::OnVringCall(unsigned /*index*/) { return Refused(); }
absl::Status FrontendHandler::OnVringErr(unsigned /*index*/) { return Refused(); }
absl::Status FrontendHandler::OnHostNotifier(unsigned /*index*/, uint8_t* /*page*/) {
  return Refused();
}
void FrontendHandler::OnDisconnect(const absl::Status& /*why*/) {}

void Frontend::ProcessBackend() {
  for (int i = 0; i < kMaxRequestsAtOnce; i++) {
    if (backend_ == nullptr || wants_close_ || !main_->status().ok()) return;
    absl::StatusOr<Responder::Request> request = backend_->Next();
    if (!request.ok()) return EndBackendChannel(request.status());
    if (request->message == nullptr) return;
    const absl::Status status = Answer(*request);
    if (!status.ok()) return EndBackendChannel(status);
  }
}

absl::Status Frontend::Answer(const Responder::Request& request) {
  // This one has a reply of its own.
  if (request.message->header.request ==
      static_cast<uint32_t>(BackendRequest::kSharedObjectLookup)) {
    const absl::StatusOr<int> fd = LookUpObject(request);
    absl::Status status = fd.status();
    if (fd.ok()) status = backend_->Reply(AsBytes(uint64_t{0}), absl::MakeConstSpan(&*fd, 1));
    if (status.ok()) return status;
    nr_refused_++;
    // If it wasn't the descriptor but the socket, this fails, too.
    return backend_->Reply(AsBytes(static_cast<uint64_t>(GetErrno(status).value_or(EIO))));
  }
  const absl::Status result = request.status.ok() ? Handle(*request.message) : request.status;
  if (!result.ok()) nr_refused_++;
  return backend_->Acknowledge(result);
}

absl::Status Frontend::Handle(Message& message) {
  switch (static_cast<BackendRequest>(message.header.request)) {
    case BackendRequest::kIotlbMsg:
      return HandleIotlb(FromBytes<IotlbMessage>(message.bytes()));
    case BackendRequest::kConfigChangeMsg:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kConfig, "CONFIG_CHANGE_MSG"));
      return handler_->OnConfigChange();
    case BackendRequest::kVringHostNotifierMsg:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kHostNotifier, "VRING_HOST_NOTIFIER_MSG"));
      return HandleHostNotifier(message);
    case BackendRequest::kVringCall:
    case BackendRequest::kVringErr:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kInbandNotifications, "an in-band notification"));
      return HandleVring(message);
    case BackendRequest::kSharedObjectAdd:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kSharedObject, "SHARED_OBJECT_ADD"));
      return AddObject(FromBytes<Uuid>(message.bytes()));
    case BackendRequest::kSharedObjectRemove:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kSharedObject, "SHARED_OBJECT_REMOVE"));
      return options_.shared_objects->Remove(FromBytes<Uuid>(message.bytes()), this);
    case BackendRequest::kSharedObjectLookup:
      break;
    case BackendRequest::kShmemMap:
    case BackendRequest::kShmemUnmap:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kShmemMap, "a shared memory region"));
      return HandleShmem(message);
  }
  return Refused();
}

absl::Status Frontend::HandleIotlb(const IotlbMessage& message) {
  if ((acked_features_ & Bit(VirtioFeature::kIommuPlatform)) == 0) {
    return CheckError(EOPNOTSUPP, "IOTLB_MSG needs VIRTIO_F_IOMMU_PLATFORM, which isn't set");
  }
  if (message.type != IotlbType::kMiss && message.type != IotlbType::kAccessFail) {
    return CheckError(EINVAL,
                      absl::StrCat("an IOTLB message of type ", static_cast<int>(message.type),
                                   " isn't for a back-end to send"));
  }
  return handler_->OnIotlb(message);
}

absl::Status Frontend::HandleVring(const Message& message) {
  const auto vring = FromBytes<VringState>(message.bytes());
  if (vring.index >= kMaxQueues) {
    return CheckError(EINVAL, absl::StrCat("there is no virtqueue ", vring.index));
  }
  return static_cast<BackendRequest>(message.header.request) == BackendRequest::kVringCall
             ? handler_->OnVringCall(vring.index)
             : handler_->OnVringErr(vring.index);
}

absl::Status Frontend::HandleHostNotifier(Message& message) {
  const auto area = FromBytes<VringArea>(message.bytes());
  const auto index = static_cast<unsigned>(area.vring & kVringIndexMask);
  if ((area.vring & kVringNoFd) != 0) return RemoveNotifier(index);

  const ByteSize page_size = HostPageSize();
  const ByteOffset offset(area.offset);
  if (ByteSize(area.size) != page_size || !IsAligned(offset, page_size) ||
      !CheckedAdd(offset, page_size)) {
    return CheckError(EINVAL, absl::StrCat("a host notifier is one page of ", ToString(page_size),
                                           ", not ", area.size, " bytes at ", ToString(offset)));
  }
  const UniqueFd fd = message.fds.Take(0);
  GMEM_RETURN_IF_ERROR(internal::CheckFileReaches(fd.get(), offset, page_size));
  GMEM_ASSIGN_OR_RETURN(Mapping page,
                        Mapping::OfFile(fd.get(), {.offset = offset, .size = page_size}));
  GMEM_RETURN_IF_ERROR(handler_->OnHostNotifier(index, page.data()));
  notifiers_[index] = std::move(page);
  return absl::OkStatus();
}

absl::Status Frontend::RemoveNotifier(unsigned index) {
  // Out of the map before the handler may do anything; unmapped after.
  const auto notifier = notifiers_.extract(index);
  if (notifier.empty()) {
    return CheckError(ENOENT, absl::StrCat("virtqueue ", index, " has no host notifier"));
  }
  const Busy busy(*this);
  handler_->OnHostNotifier(index, nullptr).IgnoreError();
  return absl::OkStatus();
}

absl::Status Frontend::HandleShmem(const Message& message) {
  const auto mapping = FromBytes<ShmemMapping>(message.bytes());
  return static_cast<BackendRequest>(message.header.request) == BackendRequest::kShmemMap
             ? shmem_.Map(mapping, message.fds.get(0))
             : shmem_.Unmap(mapping);
}

// The object's descriptor is asked for right away: a back-end that looks it up never waits
// for another one. It is there when the owner has answered, unless the object is gone then.
absl::Status Frontend::AddObject(const Uuid& uuid) {
  if (is_table_unacknowledged_) {
    return CheckError(EBUSY, "no object can be asked for before the memory table is acknowledged");
  }
  if (main_->is_full()) return CheckError(ENOMEM, "too many requests wait for the back-end");
  GMEM_ASSIGN_OR_RETURN(std::shared_ptr<UniqueFd> object, options_.shared_objects->Add(uuid, this));
  Start<FrontendRequest::kGetSharedObject>(
      uuid, {}, [object = std::move(object)](absl::StatusOr<Message*> reply) {
        if (reply.ok()) *object = (*reply)->fds.Take(0);
      });
  return absl::OkStatus();
}

absl::StatusOr<int> Frontend::LookUpObject(const Responder::Request& request) const {
  GMEM_RETURN_IF_ERROR(request.status);
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kSharedObject, "SHARED_OBJECT_LOOKUP"));
  const int fd = options_.shared_objects->Find(FromBytes<Uuid>(request.message->bytes()));
  if (fd < 0) return CheckError(ENOENT, "there is no such object, or not yet");
  return fd;
}

}  // namespace gmem::vhost
