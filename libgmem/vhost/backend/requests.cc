// SPDX-License-Identifier: Apache-2.0
// What each request of the front-end does.
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/backend/events.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

// Done here for every device.
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
// Done by the device.
constexpr uint64_t kDeviceProtocolFeatures =
    Bit(ProtocolFeature::kRarp) | Bit(ProtocolFeature::kNetMtu) |
    Bit(ProtocolFeature::kCryptoSession) | Bit(ProtocolFeature::kHostNotifier) |
    Bit(ProtocolFeature::kSharedObject) | Bit(ProtocolFeature::kDeviceState) |
    // Not for every device: see Device::protocol_features().
    Bit(ProtocolFeature::kPagefault) | Bit(ProtocolFeature::kGetVringBaseInflight);

}  // namespace

uint64_t Backend::offered_features() const { return kFeatures | device_.features(); }

uint64_t Backend::offered_protocol_features() const {
  uint64_t features = kProtocolFeatures;
  features |= device_.protocol_features() & kDeviceProtocolFeatures;
  if (device_.config_size() > 0) features |= Bit(ProtocolFeature::kConfig);
  if (!device_.shmem_sizes().empty()) features |= Bit(ProtocolFeature::kShmemMap);
  return features;
}

absl::Status Backend::NeedFeature(ProtocolFeature feature, bool is_there) const {
  if (is_there) return absl::OkStatus();
  return CheckError(EOPNOTSUPP, absl::StrCat("a request without its protocol feature ",
                                             static_cast<unsigned>(feature), " negotiated"));
}

absl::Status Backend::Handle(Message& message) {
  const auto request = static_cast<FrontendRequest>(message.header.request);
  const Format* const format = FindFormat(request);
  if (format->has_reply) return HandleAsked(request, message);
  // Answered by a table, or, the second time, the front-end's answer to that.
  if (request == FrontendRequest::kSetMemTable) return SetMemoryTable(message);
  if (request == FrontendRequest::kAddMemReg && is_postcopy_listening_) {
    return ReplyAddMemoryRegion(message);
  }
  GMEM_RETURN_IF_ERROR(HandlePlain(request, message));
  return responder_.Acknowledge(absl::OkStatus());
}

absl::Status Backend::HandlePlain(FrontendRequest request, Message& message) {
  switch (request) {
    case FrontendRequest::kSetFeatures:
      return SetFeatures(FromBytes<uint64_t>(message.bytes()));
    case FrontendRequest::kSetProtocolFeatures:
      return SetProtocolFeatures(FromBytes<uint64_t>(message.bytes()));
    case FrontendRequest::kSetOwner:
    // Not in use any more, and never meant the same to all.
    case FrontendRequest::kResetOwner:
      return absl::OkStatus();
    case FrontendRequest::kAddMemReg:
      return AddMemoryRegion(message);
    case FrontendRequest::kRemMemReg: {
      GMEM_RETURN_IF_ERROR(memory_.Remove(FromBytes<SingleMemoryRegion>(message.bytes()).region));
      MoveRings();
      return absl::OkStatus();
    }
    case FrontendRequest::kSetLogFd:
      if (!message.fds.empty()) GMEM_RETURN_IF_ERROR(PrepareEventFd(message.fds.get(0)));
      log_fd_ = message.fds.Take(0);
      return absl::OkStatus();
    case FrontendRequest::kSetBackendReqFd:
      return SetBackendChannel(message.fds.Take(0));
    case FrontendRequest::kIotlbMsg: {
      GMEM_RETURN_IF_ERROR(iotlb_.Apply(FromBytes<IotlbMessage>(message.bytes())));
      MoveRings();
      return absl::OkStatus();
    }
    case FrontendRequest::kSetInflightFd:
      return SetInflight(FromBytes<InflightArea>(message.bytes()), message.fds.Take(0));
    case FrontendRequest::kPostcopyListen:
      if (!postcopy_) return CheckError(EINVAL, "POSTCOPY_LISTEN before POSTCOPY_ADVISE");
      is_postcopy_listening_ = true;
      return absl::OkStatus();
    default:
      return HandleVring(request, message);
  }
}

absl::Status Backend::HandleVring(FrontendRequest request, Message& message) {
  const auto state = FromBytes<VringState>(message.bytes());
  switch (request) {
    case FrontendRequest::kSetVringNum: {
      GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindStoppedVring(state.index));
      if (state.num == 0 || state.num > kMaxQueueSize) {
        return CheckError(EINVAL, absl::StrCat("virtqueue ", state.index, " can't have ", state.num,
                                               " entries: 1 to ", kMaxQueueSize));
      }
      vring->size = state.num;
      return absl::OkStatus();
    }
    case FrontendRequest::kSetVringBase: {
      GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindStoppedVring(state.index));
      vring->base = state.num;
      return absl::OkStatus();
    }
    case FrontendRequest::kSetVringEnable: {
      GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(state.index));
      if (state.num > 1) {
        return CheckError(EINVAL, absl::StrCat("SET_VRING_ENABLE to ", state.num, ": 0 or 1"));
      }
      vring->is_enabled = state.num == 1;
      // One that hasn't started waits for SET_VRING_KICK.
      if (vring->queue) vring->is_pending = true;
      return absl::OkStatus();
    }
    case FrontendRequest::kSetVringAddr:
      return SetVringAddress(FromBytes<VringAddress>(message.bytes()));
    case FrontendRequest::kSetVringKick:
    case FrontendRequest::kSetVringCall:
    case FrontendRequest::kSetVringErr:
      return SetVringFd(request, FromBytes<uint64_t>(message.bytes()), message.fds.Take(0));
    case FrontendRequest::kVringKick: {
      GMEM_RETURN_IF_ERROR(NeedFeature(ProtocolFeature::kInbandNotifications,
                                       has_feature(ProtocolFeature::kInbandNotifications)));
      GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(state.index));
      SetKicked(*vring);
      return StartQueue(state.index);
    }
    default:
      return HandleOther(request, message);
  }
}

absl::Status Backend::HandleOther(FrontendRequest request, Message& message) {
  const auto number = FromBytes<uint64_t>(message.bytes());
  switch (request) {
    case FrontendRequest::kSetConfig:
      return SetConfig(FromBytes<ConfigSpace>(message.bytes()));
    case FrontendRequest::kSetStatus:
      return SetStatus(number);
    case FrontendRequest::kResetDevice:
      return ResetDevice();
    case FrontendRequest::kNetSetMtu:
      return device_.SetMtu(number);
    case FrontendRequest::kSendRarp:
      return device_.SendRarp(number);
    case FrontendRequest::kCloseCryptoSession:
      return device_.CloseCryptoSession(number);
    case FrontendRequest::kGpuSetSocket:
      return device_.SetGpuSocket(message.fds.Take(0));
    // Rings are little-endian, see Backend.
    case FrontendRequest::kSetVringEndian:
    default:
      return CheckError(EOPNOTSUPP, absl::StrCat(Name(request),
                                                 " is for what this back-end "
                                                 "doesn't offer"));
  }
}

absl::Status Backend::HandleAsked(FrontendRequest request, Message& message) {
  const auto reply_number = [this](uint64_t number) { return responder_.Reply(AsBytes(number)); };
  switch (request) {
    case FrontendRequest::kGetFeatures:
      return reply_number(offered_features());
    case FrontendRequest::kGetProtocolFeatures:
      return reply_number(offered_protocol_features());
    case FrontendRequest::kGetQueueNum:
      return reply_number(vrings_.size());
    case FrontendRequest::kGetMaxMemSlots:
      return reply_number(kMaxMemorySlots);
    case FrontendRequest::kGetStatus:
      return reply_number(device_status_);
    case FrontendRequest::kGetVringBase:
      return GetVringBase(FromBytes<VringState>(message.bytes()).index);
    case FrontendRequest::kGetConfig:
      return ReplyConfig(FromBytes<ConfigSpace>(message.bytes()));
    case FrontendRequest::kSetLogBase:
      return SetLogBase(message);
    case FrontendRequest::kGetInflightFd:
      return ReplyInflight(FromBytes<InflightArea>(message.bytes()));
    case FrontendRequest::kPostcopyAdvise:
      return AdvisePostcopy();
    case FrontendRequest::kPostcopyEnd:
      return EndPostcopy();
    case FrontendRequest::kSetDeviceStateFd:
      return SetStateFd(FromBytes<DeviceStateTransfer>(message.bytes()), message.fds.Take(0));
    case FrontendRequest::kCheckDeviceState:
      is_state_asked_ = true;
      return !transfer_ || !transfer_->fd ? AnswerState() : absl::OkStatus();
    case FrontendRequest::kGetShmemConfig:
      return ReplyShmemConfig();
    case FrontendRequest::kCreateCryptoSession:
      return ReplyCryptoSession(FromBytes<CryptoSession>(message.bytes()));
    case FrontendRequest::kGetSharedObject:
      return ReplySharedObject(FromBytes<Uuid>(message.bytes()));
    default:
      return CheckError(EOPNOTSUPP, absl::StrCat(Name(request), " has no answer here"));
  }
}

absl::Status Backend::SetFeatures(uint64_t features) {
  if ((features & ~offered_features()) != 0) {
    return CheckError(EINVAL, absl::StrCat("SET_FEATURES to 0x", absl::Hex(features), ": only 0x",
                                           absl::Hex(offered_features()), " are offered"));
  }
  if (has_started() && ((features ^ features_) & ~Bit(VirtioFeature::kLogAll)) != 0) {
    return CheckError(EBUSY, absl::StrCat("SET_FEATURES to 0x", absl::Hex(features),
                                          " while virtqueues work: stop them first"));
  }
  features_ = features;
  UpdateTranslation();
  if (!has_feature(VirtioFeature::kProtocolFeatures)) {
    for (Vring& vring : vrings_) vring.is_enabled = true;
  }
  MoveRings();
  device_.SetFeatures(features);
  return absl::OkStatus();
}

void Backend::UpdateTranslation() {
  const bool is_translated = has_feature(VirtioFeature::kIommuPlatform);
  if (!is_translated) iotlb_.Clear();
  memory_.set_iotlb(is_translated ? &iotlb_ : nullptr, has_feature(ProtocolFeature::kGpaAddresses));
}

absl::Status Backend::SetProtocolFeatures(uint64_t features) {
  if ((features & ~offered_protocol_features()) != 0) {
    return CheckError(EINVAL,
                      absl::StrCat("SET_PROTOCOL_FEATURES to 0x", absl::Hex(features), ": only 0x",
                                   absl::Hex(offered_protocol_features()), " are offered"));
  }
  const uint64_t needed = Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kReplyAck);
  if ((features & Bit(ProtocolFeature::kInbandNotifications)) != 0 &&
      (features & needed) != needed) {
    return CheckError(EINVAL, "INBAND_NOTIFICATIONS need BACKEND_REQ and REPLY_ACK");
  }
  if ((features & Bit(ProtocolFeature::kGetVringBaseInflight)) != 0 &&
      (features & Bit(ProtocolFeature::kInflightShmfd)) == 0) {
    return CheckError(EINVAL, "GET_VRING_BASE_INFLIGHT needs INFLIGHT_SHMFD");
  }
  if (has_started() &&
      ((features ^ protocol_features_) & Bit(ProtocolFeature::kGpaAddresses)) != 0) {
    return CheckError(EBUSY, "what addresses mean can't change while virtqueues work: stop them");
  }
  protocol_features_ = features;
  UpdateTranslation();
  responder_.set_reply_ack(has_feature(ProtocolFeature::kReplyAck));
  if (channel_ != nullptr) channel_->set_reply_ack(has_feature(ProtocolFeature::kReplyAck));
  return absl::OkStatus();
}

absl::Status Backend::ReplyConfig(const ConfigSpace& request) {
  ConfigSpace reply = request;
  const uint32_t size = device_.config_size();
  // The whole of it may be asked for, whatever of it there is.
  reply.bytes = {};
  const uint32_t begin = std::min(request.offset, size);
  const uint32_t count = std::min(request.size, size - begin);
  if (count == 0 || !device_.ReadConfig(begin, {reply.bytes.data(), count}).ok()) {
    reply.size = 0;
  }
  return responder_.Reply(AsBytes(reply));
}

absl::Status Backend::SetConfig(const ConfigSpace& request) {
  const uint32_t size = device_.config_size();
  if (request.offset > size || request.size > size - request.offset || request.flags > 1) {
    return CheckError(EINVAL, absl::StrCat("SET_CONFIG of ", request.size, " bytes at ",
                                           request.offset, " with flags ", request.flags,
                                           ": the configuration has ", size, " bytes"));
  }
  return device_.WriteConfig(request.offset, {request.bytes.data(), request.size}, request.flags);
}

absl::Status Backend::SetBackendChannel(UniqueFd socket) {
  GMEM_RETURN_IF_ERROR(
      NeedFeature(ProtocolFeature::kBackendReq, has_feature(ProtocolFeature::kBackendReq)));
  GMEM_ASSIGN_OR_RETURN(UniqueFd watch, UniqueFd::Duplicate(socket.get()));
  GMEM_ASSIGN_OR_RETURN(Connection connection, Connection::Adopt(std::move(socket)));
  if (channel_ != nullptr) {
    channel_->Close(CheckError(ECONNRESET, "the front-end has replaced the channel"));
  }
  UnwatchChannel();
  channel_watch_ = std::move(watch);
  channel_ = std::make_unique<Requester>(std::move(connection), timeout_);
  channel_->set_reply_ack(has_feature(ProtocolFeature::kReplyAck));
  channel_events_ = EPOLLIN;
  GMEM_RETURN_IF_ERROR(
      Watch(channel_watch_.get(), kChannelToken, channel_events_, /*is_new=*/true));
  MoveRings();
  device_.ChannelOpened(*this);
  return absl::OkStatus();
}

absl::Status Backend::SetStatus(uint64_t status) {
  constexpr uint64_t kMaxStatus = 0xff;
  if (status > kMaxStatus) {
    return CheckError(EINVAL, absl::StrCat("SET_STATUS to 0x", absl::Hex(status)));
  }
  device_status_ = static_cast<uint8_t>(status);
  if (status == 0) return ResetDevice();
  device_.SetStatus(device_status_);
  return absl::OkStatus();
}

absl::Status Backend::ResetDevice() {
  for (size_t i = 0; i < vrings_.size(); i++) {
    StopQueue(i);
    vrings_[i].is_enabled = !has_feature(VirtioFeature::kProtocolFeatures);
  }
  device_status_ = 0;
  device_.Reset();
  return absl::OkStatus();
}

absl::Status Backend::ReplyShmemConfig() {
  ShmemConfig config = {};
  const std::vector<uint64_t> sizes = device_.shmem_sizes();
  std::copy(sizes.begin(), sizes.end(), config.sizes.begin());
  config.nr_regions = static_cast<uint32_t>(
      std::count_if(sizes.begin(), sizes.end(), [](uint64_t size) { return size != 0; }));
  return responder_.Reply(AsBytes(config));
}

absl::Status Backend::ReplyCryptoSession(CryptoSession session) {
  const absl::StatusOr<int64_t> id = device_.CreateCryptoSession(session);
  session.session_id = id.ok() ? *id : -GetErrno(id.status()).value_or(EIO);
  return responder_.Reply(AsBytes(session));
}

absl::Status Backend::ReplySharedObject(const Uuid& uuid) {
  const absl::StatusOr<UniqueFd> object = device_.GetSharedObject(uuid);
  if (!object.ok()) return responder_.Reply({});
  return responder_.Reply({}, {object->get()});
}

}  // namespace gmem::vhost
