// SPDX-License-Identifier: Apache-2.0
// Requests to the device as a whole.
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

constexpr uint8_t kRunning = static_cast<uint8_t>(DeviceStatus::kAcknowledge) |
                             static_cast<uint8_t>(DeviceStatus::kDriver) |
                             static_cast<uint8_t>(DeviceStatus::kDriverOk);

absl::Status CheckConfigRange(uint32_t offset, size_t size) {
  if (size > 0 && size <= kMaxConfigSize && offset <= kMaxConfigSize - size) {
    return absl::OkStatus();
  }
  return CheckError(EINVAL, absl::StrCat(size, " bytes from ", offset, " on aren't in the ",
                                         kMaxConfigSize, " of a configuration space"));
}

}  // namespace

absl::StatusOr<std::string> Frontend::GetConfig(uint32_t offset, uint32_t size) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kConfig, "GET_CONFIG"));
  GMEM_RETURN_IF_ERROR(CheckConfigRange(offset, size));
  ConfigSpace config = {};
  config.offset = offset;
  config.size = size;
  GMEM_ASSIGN_OR_RETURN(config, Call<FrontendRequest::kGetConfig>(config));
  if (config.size != size || config.offset != offset) {
    return CheckError(
        EIO, absl::StrCat("asked for ", size, " bytes of configuration from ", offset,
                          " on, the back-end gave ", config.size, " from ", config.offset, " on"));
  }
  return std::string(reinterpret_cast<const char*>(config.bytes.data()), size);
}

absl::Status Frontend::SetConfig(uint32_t offset, absl::string_view bytes, uint32_t flags) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kConfig, "SET_CONFIG"));
  GMEM_RETURN_IF_ERROR(CheckConfigRange(offset, bytes.size()));
  ConfigSpace config = {};
  config.offset = offset;
  config.size = static_cast<uint32_t>(bytes.size());
  config.flags = flags;
  std::memcpy(config.bytes.data(), bytes.data(), bytes.size());
  return Do<FrontendRequest::kSetConfig>(config);
}

absl::StatusOr<uint8_t> Frontend::GetStatus() {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kStatus, "GET_STATUS"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t status, Call<FrontendRequest::kGetStatus>());
  if (status > UINT8_MAX) {
    return CheckError(
        EIO, absl::StrCat("the back-end's status 0x", absl::Hex(status), " has more than 8 bits"));
  }
  return static_cast<uint8_t>(status);
}

absl::Status Frontend::SetStatus(uint8_t status) {
  const Deadline deadline(*this);
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kStatus, "SET_STATUS"));
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetStatus>(
      status, {}, status == 0 ? Confirm::kAlways : Confirm::kIfAcked));
  is_driver_ok_ = (status & static_cast<uint8_t>(DeviceStatus::kDriverOk)) != 0;
  return status == 0 ? ForgetDevice() : absl::OkStatus();
}

absl::Status Frontend::AddStatus(uint8_t bits) {
  GMEM_ASSIGN_OR_RETURN(const uint8_t status, GetStatus());
  if ((status & bits) == bits) return absl::OkStatus();
  return SetStatus(status | bits);
}

absl::Status Frontend::DriverOk() {
  const Deadline deadline(*this);
  if (!Has(ProtocolFeature::kStatus)) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(AddStatus(kRunning));
  is_driver_ok_ = true;
  return absl::OkStatus();
}

absl::Status Frontend::ResetDevice() {
  const Deadline deadline(*this);
  if (!Has(ProtocolFeature::kResetDevice)) return SetStatus(0);
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kResetDevice>({}, {}, Confirm::kAlways));
  return Has(ProtocolFeature::kStatus) ? SetStatus(0) : ForgetDevice();
}

absl::Status Frontend::ForgetDevice() {
  vrings_.clear();
  acked_features_ = 0;
  has_features_ = false;
  is_driver_ok_ = false;
  return UnmapAll();
}

absl::Status Frontend::SetMtu(uint16_t mtu) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kNetMtu, "NET_SET_MTU"));
  return Do<FrontendRequest::kNetSetMtu>(mtu);
}

absl::Status Frontend::SendRarp(const std::array<uint8_t, 6>& mac) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kRarp, "SEND_RARP"));
  uint64_t payload = 0;
  std::memcpy(&payload, mac.data(), mac.size());
  return Do<FrontendRequest::kSendRarp>(payload);
}

absl::Status Frontend::SetGpuSocket(int socket) {
  return Do<FrontendRequest::kGpuSetSocket>({}, absl::MakeConstSpan(&socket, 1));
}

absl::Status Frontend::SendIotlb(const IotlbMessage& message) {
  if ((acked_features_ & Bit(VirtioFeature::kIommuPlatform)) == 0) {
    return CheckError(EOPNOTSUPP, "IOTLB_MSG needs VIRTIO_F_IOMMU_PLATFORM, which isn't set");
  }
  return Do<FrontendRequest::kIotlbMsg>(message);
}

absl::StatusOr<int64_t> Frontend::CreateCryptoSession(const CryptoSession& session) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kCryptoSession, "CREATE_CRYPTO_SESSION"));
  GMEM_ASSIGN_OR_RETURN(const CryptoSession reply,
                        Call<FrontendRequest::kCreateCryptoSession>(session));
  if (reply.session_id < 0) {
    return CheckError(EIO, absl::StrCat("the back-end made no session: ", reply.session_id));
  }
  return reply.session_id;
}

absl::Status Frontend::CloseCryptoSession(int64_t session) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kCryptoSession, "CLOSE_CRYPTO_SESSION"));
  return Do<FrontendRequest::kCloseCryptoSession>(static_cast<uint64_t>(session));
}

absl::StatusOr<UniqueFd> Frontend::SetDeviceStateFd(TransferDirection direction, int fd) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kDeviceState, "SET_DEVICE_STATE_FD"));
  FdList theirs;
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply,
                        Call<FrontendRequest::kSetDeviceStateFd>(
                            {.direction = direction, .phase = TransferPhase::kStopped},
                            absl::MakeConstSpan(&fd, 1), Confirm::kIfAcked, &theirs));
  if ((reply & ~kReplyNoFd) != 0) {
    return CheckError(EIO,
                      absl::StrCat("the back-end won't transfer its state: 0x", absl::Hex(reply)));
  }
  if (theirs.empty() != (reply == kReplyNoFd)) {
    return CheckError(EIO, absl::StrCat("the back-end says 0x", absl::Hex(reply), " with ",
                                        theirs.size(), " descriptors"));
  }
  return theirs.Take(0);
}

absl::Status Frontend::CheckDeviceState() {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kDeviceState, "CHECK_DEVICE_STATE"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply, Call<FrontendRequest::kCheckDeviceState>());
  if (reply == 0) return absl::OkStatus();
  return CheckError(EIO,
                    absl::StrCat("the device's state didn't get over whole: 0x", absl::Hex(reply)));
}

absl::StatusOr<UniqueFd> Frontend::GetSharedObject(const Uuid& uuid) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kSharedObject, "GET_SHARED_OBJECT"));
  FdList fds;
  GMEM_RETURN_IF_ERROR(
      Call<FrontendRequest::kGetSharedObject>(uuid, {}, Confirm::kIfAcked, &fds).status());
  if (fds.empty()) return CheckError(ENOENT, "the back-end has no such object");
  return fds.Take(0);
}

}  // namespace gmem::vhost
