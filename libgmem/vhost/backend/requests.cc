// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/requests.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"
#include "vhost/backend/device_requests.h"
#include "vhost/backend/parts.h"
#include "vhost/backend/poller.h"
#include "vhost/backend/postcopy.h"
#include "vhost/backend/vring.h"
#include "vhost/wire/file_type.h"

namespace gmem::vhost::backend_internal {
namespace {

using internal::CheckError;

template <FrontendRequest kRequest>
typename RequestTraits<kRequest>::Payload Decode(const Message& message) {
  return FromBytes<typename RequestTraits<kRequest>::Payload>(message.bytes());
}

absl::Status Unsupported(FrontendRequest request) {
  return CheckError(EOPNOTSUPP, absl::StrCat(Name(request),
                                             " is for a feature that this back-end doesn't "
                                             "offer"));
}

// A device may read what it gets here: another descriptor may do anything then.
absl::Status SetGpuSocket(Device& device, UniqueFd socket) {
  if (wire_internal::FileType(socket.get()) != S_IFSOCK) {
    return CheckError(EINVAL, "GPU_SET_SOCKET with a descriptor that is no socket");
  }
  return device.SetGpuSocket(std::move(socket));
}

}  // namespace

absl::Status Requests::Watch() {
  return parts_.poller.Add(responder_.fd(), events_, Poller::Source::kFrontend);
}

bool Requests::has_frontend_gone() const {
  pollfd peer = {.fd = responder_.fd(), .events = POLLRDHUP, .revents = 0};
  return poll(&peer, 1, 0) > 0;
}

void Requests::UpdateEvents() {
  const uint32_t events =
      (is_busy() ? 0U : uint32_t{EPOLLIN}) | (responder_.wants_write() ? uint32_t{EPOLLOUT} : 0U);
  if (events != events_ &&
      parts_.poller.Change(responder_.fd(), events, Poller::Source::kFrontend).ok()) {
    events_ = events;
  }
}

absl::Status Requests::Take() {
  for (int i = 0; i < kMaxRequests; i++) {
    GMEM_ASSIGN_OR_RETURN(const Responder::Request request, responder_.Next());
    if (request.message == nullptr) break;
    absl::Status status = request.status;
    if (status.ok()) status = Handle(*request.message);
    if (!status.ok()) GMEM_RETURN_IF_ERROR(Refuse(*request.message, status));
    if (is_busy()) break;
  }
  return absl::OkStatus();
}

absl::Status Requests::Refuse(const Message& message, const absl::Status& why) {
  if (responder_.can_refuse()) return responder_.Acknowledge(why);
  switch (static_cast<FrontendRequest>(message.header.request)) {
    // The specification's error reply.
    case FrontendRequest::kGetConfig:
      return responder_.Reply({});
    // A front-end passes on what the driver did, whatever that was, and doesn't want to know the
    // result: a driver must not be able to end the session.
    case FrontendRequest::kSetConfig:
    case FrontendRequest::kCloseCryptoSession:
      return absl::OkStatus();
    default:
      return why;
  }
}

absl::Status Requests::Handle(Message& message) {
  using enum FrontendRequest;
  const auto request = static_cast<FrontendRequest>(message.header.request);
  Device& device = parts_.device;
  // No default: the compiler names a request that is missing.
  switch (request) {
    // Requests with a reply of their own.
    case kGetFeatures:
      return Reply(parts_.negotiation.offered_features());
    case kGetProtocolFeatures:
      return Reply(parts_.negotiation.offered_protocol_features());
    case kGetQueueNum:
      return Reply(uint64_t{parts_.vrings.size()});
    case kGetMaxMemSlots:
      return Reply(uint64_t{kMaxMemorySlots});
    case kGetStatus:
      return Reply(uint64_t{parts_.negotiation.device_status()});
    case kGetVringBase:
      return GetVringBase(Decode<kGetVringBase>(message).index);
    case kGetConfig:
      return GetConfig(Decode<kGetConfig>(message));
    case kSetLogBase:
      return SetLogBase(Decode<kSetLogBase>(message), message.fds.get(0));
    case kGetInflightFd:
      return GetInflight(Decode<kGetInflightFd>(message));
    case kPostcopyAdvise:
      return AdvisePostcopy();
    case kPostcopyEnd:
      return EndPostcopy();
    case kSetDeviceStateFd:
      return SetStateFd(Decode<kSetDeviceStateFd>(message), message.fds.Take(0));
    case kCheckDeviceState:
      return CheckState();
    case kGetShmemConfig:
      return Reply(ShmemConfigOf(device));
    case kCreateCryptoSession:
      return Reply(CreateCryptoSession(device, Decode<kCreateCryptoSession>(message)));
    case kGetSharedObject:
      return GetSharedObject(Decode<kGetSharedObject>(message));

    // During postcopy these have a reply, or are one.
    case kSetMemTable:
      return SetMemoryTable(Decode<kSetMemTable>(message), message.fds);
    case kAddMemReg:
      return AddMemoryRegion(message);

    // Requests that are acknowledged, if the front-end asks for that.
    case kSetFeatures:
      return Done(SetFeatures(Decode<kSetFeatures>(message)));
    case kSetProtocolFeatures:
      return Done(SetProtocolFeatures(Decode<kSetProtocolFeatures>(message)));
    case kSetOwner:
    // Deprecated, and never meant the same to all front-ends.
    case kResetOwner:
      return Done(absl::OkStatus());
    case kRemMemReg:
      return RemoveMemoryRegion(Decode<kRemMemReg>(message).region);
    case kSetLogFd:
      return Done(parts_.memory.SetLogNotifier(message.fds.Take(0)));
    case kSetBackendReqFd:
      return Done(SetBackendChannel(message.fds.Take(0)));
    case kIotlbMsg:
      return Done(UpdateIotlb(Decode<kIotlbMsg>(message)));
    case kSetInflightFd:
      return Done(SetInflight(Decode<kSetInflightFd>(message), message.fds.Take(0)));
    case kPostcopyListen:
      return Done(parts_.postcopy.Listen());
    case kSetVringNum:
      return Done(SetVring(Decode<kSetVringNum>(message), &Vring::SetSize));
    case kSetVringBase:
      return Done(SetVring(Decode<kSetVringBase>(message), &Vring::SetBase));
    case kSetVringEnable:
      return Done(SetVring(Decode<kSetVringEnable>(message), &Vring::Enable));
    case kSetVringAddr:
      return Done(SetVringAddress(Decode<kSetVringAddr>(message)));
    case kSetVringKick:
      return Done(SetVringFd(Decode<kSetVringKick>(message), message.fds.Take(0), &Vring::SetKick));
    case kSetVringCall:
      return Done(SetVringFd(Decode<kSetVringCall>(message), message.fds.Take(0), &Vring::SetCall));
    case kSetVringErr:
      return Done(SetVringFd(Decode<kSetVringErr>(message), message.fds.Take(0), &Vring::SetError));
    case kVringKick:
      return Done(KickVring(Decode<kVringKick>(message).index));
    case kSetConfig:
      return Done(WriteConfig(device, Decode<kSetConfig>(message)));
    case kSetStatus:
      return SetStatus(Decode<kSetStatus>(message));
    case kResetDevice:
      return ResetDevice();
    case kNetSetMtu:
      return Done(device.SetMtu(Decode<kNetSetMtu>(message)));
    case kSendRarp:
      return Done(device.SendRarp(Decode<kSendRarp>(message)));
    case kCloseCryptoSession:
      return Done(device.CloseCryptoSession(Decode<kCloseCryptoSession>(message)));
    case kGpuSetSocket:
      return Done(SetGpuSocket(device, message.fds.Take(0)));
    case kSetVringEndian:
      // Rings are little-endian, see Backend.
      return Unsupported(request);
  }
  return Unsupported(request);
}

absl::Status Requests::Done(const absl::Status& status) {
  return status.ok() ? responder_.Acknowledge(status) : status;
}

absl::Status Requests::AnswerDue() {
  switch (due_) {
    case Due::kNothing:
      return absl::OkStatus();
    case Due::kState:
      if (parts_.state.is_under_way()) return parts_.state.CheckTime();
      due_ = Due::kNothing;
      return Reply(uint64_t{parts_.state.TakeResult().ok() ? 0U : EIO});
    case Due::kStop: {
      if (!stopping_->can_stop()) {
        return CheckTime(absl::StrCat("virtqueue ", stopping_index_, " can't stop"),
                         stopping_->in_flight());
      }
      due_ = Due::kNothing;
      const VringState state = {.index = stopping_index_, .num = stopping_->Stop()};
      return Reply(state);
    }
    case Due::kReset:
      if (!parts_.vrings.FinishStopAll()) {
        return CheckTime("the device can't be reset", parts_.vrings.in_flight());
      }
      due_ = Due::kNothing;
      parts_.vrings.DisableAll();
      parts_.negotiation.set_device_status(0);
      parts_.device.Reset();
      return Done(absl::OkStatus());
    case Due::kMemory:
      if (parts_.memory.map().nr_retired() > 0) {
        return CheckTime("memory can't go", parts_.vrings.in_flight());
      }
      due_ = Due::kNothing;
      return AnswerMemory();
  }
  return absl::OkStatus();
}

absl::Status Requests::WaitForChains(Due due) {
  due_ = due;
  deadline_ = internal::Uptime() + parts_.device.stop_timeout();
  return AnswerDue();
}

// The front-end takes an answer as a sign that the device no longer touches the guest's memory.
absl::Status Requests::CheckTime(absl::string_view what, size_t in_flight) const {
  if (deadline_ > internal::Uptime()) return absl::OkStatus();
  return CheckError(ETIMEDOUT,
                    absl::StrCat(what, ": the device still has ", in_flight, " chains after ",
                                 absl::FormatDuration(parts_.device.stop_timeout())));
}

absl::Duration Requests::time_left() const {
  if (due_ == Due::kNothing) return absl::InfiniteDuration();
  return due_ == Due::kState ? parts_.state.time_left() : deadline_ - internal::Uptime();
}

absl::Status Requests::GetConfig(const ConfigSpace& request) {
  GMEM_ASSIGN_OR_RETURN(const ConfigSpace reply, ReadConfig(parts_.device, request));
  return Reply(reply);
}

absl::Status Requests::SetFeatures(uint64_t features) {
  GMEM_RETURN_IF_ERROR(parts_.negotiation.SetFeatures(features, parts_.vrings.has_started()));
  parts_.memory.UpdateTranslation();
  parts_.vrings.RestartAll();
  parts_.device.SetFeatures(features);
  return absl::OkStatus();
}

absl::Status Requests::SetProtocolFeatures(uint64_t features) {
  GMEM_RETURN_IF_ERROR(
      parts_.negotiation.SetProtocolFeatures(features, parts_.vrings.has_started()));
  parts_.memory.UpdateTranslation();
  const bool reply_ack = parts_.negotiation.has(ProtocolFeature::kReplyAck);
  responder_.set_reply_ack(reply_ack);
  parts_.channel.set_reply_ack(reply_ack);
  return absl::OkStatus();
}

absl::Status Requests::SetStatus(uint64_t status) {
  constexpr uint64_t kMaxStatus = 0xff;
  if (status > kMaxStatus) {
    return CheckError(EINVAL, absl::StrCat("SET_STATUS to 0x", absl::Hex(status)));
  }
  if (status == 0) return ResetDevice();
  parts_.negotiation.set_device_status(static_cast<uint8_t>(status));
  parts_.device.SetStatus(static_cast<uint8_t>(status));
  return Done(absl::OkStatus());
}

absl::Status Requests::ResetDevice() {
  parts_.vrings.BeginStopAll();
  return WaitForChains(Due::kReset);
}

absl::Status Requests::SetBackendChannel(UniqueFd socket) {
  GMEM_RETURN_IF_ERROR(parts_.negotiation.Require(ProtocolFeature::kBackendReq));
  GMEM_RETURN_IF_ERROR(
      parts_.channel.Open(std::move(socket), parts_.negotiation.has(ProtocolFeature::kReplyAck)));
  parts_.vrings.RestartAll();
  parts_.device.ChannelOpened(parts_.backend);
  return absl::OkStatus();
}

absl::Status Requests::SetMemoryTable(const MemoryTable& table, const FdList& fds) {
  GuestMemoryMap& map = parts_.memory.map();
  Postcopy& postcopy = parts_.postcopy;
  if (postcopy.is_table_unacknowledged()) return postcopy.AcknowledgeTable(table, map);
  GMEM_RETURN_IF_ERROR(map.Replace({table.regions.data(), table.nr_regions}, fds));
  if (postcopy.is_listening()) table_ = table;
  return AnswerWithoutMemory();
}

absl::Status Requests::AddMemoryRegion(const Message& message) {
  Postcopy& postcopy = parts_.postcopy;
  if (message.header.size != sizeof(SingleMemoryRegion)) {
    // The acknowledgement of all regions that were added during postcopy.
    if (postcopy.is_listening()) return postcopy.Register(parts_.memory.map());
    return CheckError(EINVAL, "ADD_MEM_REG without a region, and no postcopy");
  }
  auto request = Decode<FrontendRequest::kAddMemReg>(message);
  GMEM_RETURN_IF_ERROR(parts_.memory.map().Add(request.region, message.fds.get(0)));
  parts_.vrings.RefreshAll();
  if (!postcopy.is_listening()) return Done(absl::OkStatus());
  Postcopy::PutAddress(parts_.memory.map(), request.region);
  return Reply(request);
}

absl::Status Requests::RemoveMemoryRegion(const MemoryRegion& region) {
  GMEM_RETURN_IF_ERROR(parts_.memory.map().Remove(region));
  return AnswerWithoutMemory();
}

absl::Status Requests::AnswerWithoutMemory() {
  // Before the rings move, so that the driver sees what the device pushes now.
  parts_.vrings.ReleaseMemory();
  parts_.vrings.RefreshAll();
  parts_.memory.map().DropRetired();
  return WaitForChains(Due::kMemory);
}

absl::Status Requests::AnswerMemory() {
  if (!table_) return Done(absl::OkStatus());
  MemoryTable reply = *std::exchange(table_, std::nullopt);
  for (MemoryRegion& region : absl::MakeSpan(reply.regions.data(), reply.nr_regions)) {
    Postcopy::PutAddress(parts_.memory.map(), region);
  }
  parts_.postcopy.ExpectAcknowledgement();
  return Reply(reply);
}

absl::Status Requests::UpdateIotlb(const IotlbMessage& message) {
  GMEM_RETURN_IF_ERROR(parts_.memory.ApplyIotlb(message));
  parts_.vrings.HandleIotlb(message);
  return absl::OkStatus();
}

absl::Status Requests::SetLogBase(const LogArea& area, int fd) {
  GMEM_RETURN_IF_ERROR(parts_.negotiation.Require(ProtocolFeature::kLogShmfd));
  GMEM_RETURN_IF_ERROR(parts_.memory.SetLog(area, fd));
  parts_.vrings.RefreshAll();
  // The specification wants an empty reply, but rust-vmm's front-end waits for the request's
  // payload. QEMU takes both.
  return Reply(area);
}

absl::Status Requests::GetInflight(const InflightArea& request) {
  const absl::StatusOr<InflightBuffer> buffer = InflightBuffer::Create(
      request.nr_queues, request.queue_size, parts_.negotiation.has(VirtioFeature::kRingPacked),
      parts_.vrings.size());
  // Size 0 says that there is no buffer.
  const InflightArea none = {};
  if (!buffer.ok()) return Reply(none);
  // The back-end uses the buffer when the front-end sends it back. Until then, the back-end keeps
  // nothing of the buffer: the front-end may ask again and again (CVE-2020-10726).
  return responder_.Reply(AsBytes(buffer->area()), {buffer->fd()});
}

absl::Status Requests::SetInflight(const InflightArea& area, UniqueFd fd) {
  if (parts_.vrings.has_started()) {
    return CheckError(EBUSY, "SET_INFLIGHT_FD while virtqueues work: stop them first");
  }
  GMEM_ASSIGN_OR_RETURN(
      parts_.inflight,
      InflightBuffer::Adopt(area, std::move(fd), parts_.negotiation.has(VirtioFeature::kRingPacked),
                            parts_.vrings.size()));
  return absl::OkStatus();
}

absl::Status Requests::AdvisePostcopy() {
  GMEM_RETURN_IF_ERROR(parts_.negotiation.Require(ProtocolFeature::kPagefault));
  const int faults = parts_.postcopy.Advise(parts_.memory.map());
  if (faults < 0) return responder_.Reply({});
  return responder_.Reply({}, {faults});
}

absl::Status Requests::EndPostcopy() {
  parts_.postcopy.End(parts_.memory.map());
  return Reply(uint64_t{0});
}

absl::Status Requests::SetVring(const VringState& state, absl::Status (Vring::*set)(uint32_t)) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, parts_.vrings.Find(state.index));
  return (vring->*set)(state.num);
}

absl::Status Requests::SetVringAddress(const VringAddress& address) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, parts_.vrings.Find(address.index));
  return vring->SetAddress(address);
}

absl::Status Requests::SetVringFd(uint64_t number, UniqueFd fd,
                                  absl::Status (Vring::*set)(UniqueFd)) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, parts_.vrings.Find(number & kVringIndexMask));
  return (vring->*set)(std::move(fd));
}

absl::Status Requests::KickVring(uint32_t index) {
  GMEM_RETURN_IF_ERROR(parts_.negotiation.Require(ProtocolFeature::kInbandNotifications));
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, parts_.vrings.Find(index));
  return vring->KickInBand();
}

absl::Status Requests::GetVringBase(uint32_t index) {
  GMEM_ASSIGN_OR_RETURN(stopping_, parts_.vrings.Find(index));
  stopping_index_ = index;
  stopping_->BeginStop();
  return WaitForChains(Due::kStop);
}

absl::Status Requests::GetSharedObject(const Uuid& uuid) {
  const absl::StatusOr<UniqueFd> object = parts_.device.GetSharedObject(uuid);
  if (!object.ok()) return responder_.Reply({});
  return responder_.Reply({}, {object->get()});
}

absl::Status Requests::SetStateFd(const DeviceStateTransfer& request, UniqueFd fd) {
  absl::Status status = parts_.negotiation.Require(ProtocolFeature::kDeviceState);
  if (status.ok() && parts_.vrings.has_started()) {
    status = CheckError(EINVAL, "SET_DEVICE_STATE_FD while virtqueues work: stop them first");
  }
  if (status.ok()) status = parts_.state.Start(request, std::move(fd));
  const int error = status.ok() ? 0 : GetErrno(status).value_or(EIO);
  return Reply(kReplyNoFd | static_cast<uint64_t>(error));
}

absl::Status Requests::CheckState() {
  due_ = Due::kState;
  parts_.state.BeginWait();
  return AnswerDue();
}

}  // namespace gmem::vhost::backend_internal
