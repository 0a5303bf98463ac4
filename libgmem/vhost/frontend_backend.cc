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
#include "host_map.h"
#include "status_util.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

absl::Status Refused() { return CheckError(EOPNOTSUPP, "nobody handles this request"); }

bool IsLookup(const Message& message) {
  return message.header.request == static_cast<uint32_t>(BackendRequest::kSharedObjectLookup);
}

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
    if (lookup_ != nullptr) {
      if (lookup_->owner != nullptr) return;
      const absl::Status status = FinishLookup();
      if (!status.ok()) return EndBackendChannel(status);
      continue;
    }
    absl::StatusOr<Responder::Request> request = backend_->Next();
    if (!request.ok()) return EndBackendChannel(request.status());
    if (request->message == nullptr) return;
    const absl::Status status = Answer(*request);
    if (!status.ok()) return EndBackendChannel(status);
  }
}

absl::Status Frontend::Answer(const Responder::Request& request) {
  const absl::Status result = request.status.ok() ? Handle(*request.message) : request.status;
  if (!result.ok()) nr_refused_++;
  // This one has a reply of its own, which may be due later.
  if (!IsLookup(*request.message)) return backend_->Acknowledge(result);
  if (result.ok()) return absl::OkStatus();
  const uint64_t error = static_cast<uint64_t>(GetErrno(result).value_or(EIO));
  return backend_->Reply(AsBytes(error));
}

absl::Status Frontend::Handle(Message& message) {
  switch (static_cast<BackendRequest>(message.header.request)) {
    case BackendRequest::kIotlbMsg:
      return handler_->OnIotlb(FromBytes<IotlbMessage>(message.bytes()));
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
    case BackendRequest::kSharedObjectRemove:
    case BackendRequest::kSharedObjectLookup:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kSharedObject, "a shared object"));
      return HandleObject(message);
    case BackendRequest::kShmemMap:
    case BackendRequest::kShmemUnmap:
      GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kShmemMap, "a shared memory region"));
      return HandleShmem(message);
  }
  return Refused();
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
  const bool was_busy = std::exchange(is_busy_, true);
  handler_->OnHostNotifier(index, nullptr).IgnoreError();
  is_busy_ = was_busy;
  if (!was_busy) Settle();
  return absl::OkStatus();
}

absl::Status Frontend::HandleShmem(const Message& message) {
  const auto mapping = FromBytes<ShmemMapping>(message.bytes());
  return static_cast<BackendRequest>(message.header.request) == BackendRequest::kShmemMap
             ? shmem_.Map(mapping, message.fds.get(0))
             : shmem_.Unmap(mapping);
}

absl::Status Frontend::HandleObject(const Message& message) {
  const auto uuid = FromBytes<Uuid>(message.bytes());
  switch (static_cast<BackendRequest>(message.header.request)) {
    case BackendRequest::kSharedObjectAdd:
      return options_.shared_objects->Add(uuid, this);
    case BackendRequest::kSharedObjectRemove:
      return options_.shared_objects->Remove(uuid, this);
    default:
      return StartLookup(uuid);
  }
}

absl::Status Frontend::StartLookup(const Uuid& uuid) {
  const SharedObjects::Object* const object = options_.shared_objects->Find(uuid);
  if (object == nullptr) return CheckError(ENOENT, "there is no such object");
  auto lookup = std::make_shared<Lookup>();
  if (object->owner == nullptr) {
    GMEM_ASSIGN_OR_RETURN(lookup->fd, object->fd.Duplicate());
    lookup_ = std::move(lookup);
    return absl::OkStatus();
  }
  lookup->waiter = this;
  lookup->owner = object->owner;
  lookup_ = lookup;
  object->owner->Start<FrontendRequest::kGetSharedObject>(
      uuid, {}, [lookup](absl::StatusOr<Message*> reply) {
        lookup->owner = nullptr;
        lookup->status = reply.status();
        if (reply.ok()) lookup->fd = (*reply)->fds.Take(0);
        // Whoever waits inside of one of our calls comes by there.
        Frontend* const waiter = lookup->waiter;
        if (waiter == nullptr || waiter->is_busy_) return;
        waiter->ProcessReady(absl::Now(), /*main_ready=*/false, /*backend_ready=*/true);
      });
  return absl::OkStatus();
}

absl::Status Frontend::FinishLookup() {
  const std::shared_ptr<Lookup> lookup = std::exchange(lookup_, nullptr);
  if (lookup->status.ok() && lookup->fd.is_valid()) {
    const int fd = lookup->fd.get();
    return backend_->Reply(AsBytes(uint64_t{0}), absl::MakeConstSpan(&fd, 1));
  }
  nr_refused_++;
  const uint64_t error = static_cast<uint64_t>(GetErrno(lookup->status).value_or(ENOENT));
  return backend_->Reply(AsBytes(error));
}

void Frontend::DropLookup() {
  if (lookup_ != nullptr) lookup_->waiter = nullptr;
  lookup_ = nullptr;
}

}  // namespace gmem::vhost
