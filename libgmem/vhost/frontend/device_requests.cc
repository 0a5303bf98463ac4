// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/device_requests.h"

#include <sys/stat.h>
#include <sys/types.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"
#include "vhost/wire/file_type.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

absl::Status CheckConfigRange(uint32_t offset, size_t size) {
  if (size > 0 && size <= kMaxConfigSize && offset <= kMaxConfigSize - size) {
    return absl::OkStatus();
  }
  return CheckError(EINVAL, absl::StrCat(size, " bytes from ", offset, " on aren't in the ",
                                         kMaxConfigSize, " of a configuration space"));
}

}  // namespace

absl::StatusOr<std::string> DeviceRequests::GetConfig(uint32_t offset, uint32_t size) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kConfig, "GET_CONFIG"));
  GMEM_RETURN_IF_ERROR(CheckConfigRange(offset, size));
  ConfigSpace config = {};
  config.offset = offset;
  config.size = size;
  GMEM_ASSIGN_OR_RETURN(config, session_.Call<FrontendRequest::kGetConfig>(config));
  if (config.size == 0) {
    return CheckError(EIO, absl::StrCat("the back-end refuses to read ", size,
                                        " bytes of configuration from ", offset, " on"));
  }
  if (config.size != size || config.offset != offset) {
    return CheckError(
        EIO, absl::StrCat("asked for ", size, " bytes of configuration from ", offset,
                          " on, the back-end gave ", config.size, " from ", config.offset, " on"));
  }
  return std::string(reinterpret_cast<const char*>(config.bytes.data()), size);
}

absl::Status DeviceRequests::SetConfig(uint32_t offset, absl::string_view bytes, uint32_t flags) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kConfig, "SET_CONFIG"));
  GMEM_RETURN_IF_ERROR(CheckConfigRange(offset, bytes.size()));
  ConfigSpace config = {};
  config.offset = offset;
  config.size = static_cast<uint32_t>(bytes.size());
  config.flags = flags;
  std::memcpy(config.bytes.data(), bytes.data(), bytes.size());
  return session_.Do<FrontendRequest::kSetConfig>(config);
}

absl::Status DeviceRequests::ResetDevice() {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kResetDevice, "RESET_DEVICE"));
  return session_.Do<FrontendRequest::kResetDevice>({}, {}, Session::Confirm::kAlways);
}

absl::Status DeviceRequests::SetMtu(uint16_t mtu) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kNetMtu, "NET_SET_MTU"));
  return session_.Do<FrontendRequest::kNetSetMtu>(mtu);
}

absl::Status DeviceRequests::SendRarp(const std::array<uint8_t, 6>& mac) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kRarp, "SEND_RARP"));
  uint64_t payload = 0;
  std::memcpy(&payload, mac.data(), mac.size());
  return session_.Do<FrontendRequest::kSendRarp>(payload);
}

absl::Status DeviceRequests::SetGpuSocket(int socket) {
  return session_.Do<FrontendRequest::kGpuSetSocket>({}, absl::MakeConstSpan(&socket, 1));
}

absl::Status DeviceRequests::SendIotlb(const IotlbMessage& message) {
  if (!agreement_.HasAcked(VirtioFeature::kIommuPlatform)) {
    return CheckError(EOPNOTSUPP, "IOTLB_MSG needs VIRTIO_F_IOMMU_PLATFORM, which isn't set");
  }
  return session_.Do<FrontendRequest::kIotlbMsg>(message);
}

absl::StatusOr<int64_t> DeviceRequests::CreateCryptoSession(const CryptoSession& session) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kCryptoSession, "CREATE_CRYPTO_SESSION"));
  GMEM_ASSIGN_OR_RETURN(const CryptoSession reply,
                        session_.Call<FrontendRequest::kCreateCryptoSession>(session));
  if (reply.session_id < 0) {
    return CheckError(EIO, absl::StrCat("the back-end made no session: ", reply.session_id));
  }
  return reply.session_id;
}

absl::Status DeviceRequests::CloseCryptoSession(int64_t session) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kCryptoSession, "CLOSE_CRYPTO_SESSION"));
  return session_.Do<FrontendRequest::kCloseCryptoSession>(static_cast<uint64_t>(session));
}

absl::StatusOr<UniqueFd> DeviceRequests::SetDeviceStateFd(TransferDirection direction, int fd) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kDeviceState, "SET_DEVICE_STATE_FD"));
  FdList theirs;
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply,
                        session_.Call<FrontendRequest::kSetDeviceStateFd>(
                            {.direction = direction, .phase = TransferPhase::kStopped},
                            absl::MakeConstSpan(&fd, 1), &theirs));
  if ((reply & ~kReplyNoFd) != 0) {
    return CheckError(EIO,
                      absl::StrCat("the back-end won't transfer its state: 0x", absl::Hex(reply)));
  }
  if (theirs.empty() != (reply == kReplyNoFd)) {
    return CheckError(EIO, absl::StrCat("the back-end says 0x", absl::Hex(reply), " with ",
                                        theirs.size(), " descriptors"));
  }
  UniqueFd pipe = theirs.Take(0);
  const std::optional<mode_t> type = wire_internal::FileType(pipe.get());
  if (pipe && type != S_IFIFO && type != S_IFSOCK) {
    return CheckError(EIO, "the back-end's descriptor for its state is no pipe and no socket");
  }
  return pipe;
}

absl::Status DeviceRequests::CheckDeviceState() {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kDeviceState, "CHECK_DEVICE_STATE"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply, session_.Call<FrontendRequest::kCheckDeviceState>());
  if (reply == 0) return absl::OkStatus();
  return CheckError(
      EIO, absl::StrCat("the transfer of the device's state has failed: 0x", absl::Hex(reply)));
}

absl::StatusOr<UniqueFd> DeviceRequests::GetSharedObject(const Uuid& uuid) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kSharedObject, "GET_SHARED_OBJECT"));
  FdList fds;
  GMEM_RETURN_IF_ERROR(session_.Call<FrontendRequest::kGetSharedObject>(uuid, {}, &fds).status());
  if (fds.empty()) return CheckError(ENOENT, "the back-end has no such object");
  return fds.Take(0);
}

}  // namespace gmem::vhost::frontend_internal
