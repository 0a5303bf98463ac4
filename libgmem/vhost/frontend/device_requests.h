// SPDX-License-Identifier: MIT OR Apache-2.0
// Requests to the device as a whole. Not installed.
#ifndef GMEM_VHOST_FRONTEND_DEVICE_REQUESTS_H_
#define GMEM_VHOST_FRONTEND_DEVICE_REQUESTS_H_

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Sends a request if the features that it needs are negotiated, and checks the answer; see Frontend
// for each method. Reconnect() repeats none of these requests.
class DeviceRequests {
 public:
  DeviceRequests(Session& session, const Agreement& agreement)
      : session_(session), agreement_(agreement) {}
  DeviceRequests(const DeviceRequests&) = delete;
  DeviceRequests& operator=(const DeviceRequests&) = delete;

  absl::StatusOr<std::string> GetConfig(uint32_t offset, uint32_t size);
  absl::Status SetConfig(uint32_t offset, absl::string_view bytes, uint32_t flags);
  absl::Status ResetDevice();
  absl::Status SetMtu(uint16_t mtu);
  absl::Status SendRarp(const std::array<uint8_t, 6>& mac);
  absl::Status SetGpuSocket(int socket);
  absl::Status SendIotlb(const IotlbMessage& message);
  absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session);
  absl::Status CloseCryptoSession(int64_t session);
  absl::StatusOr<UniqueFd> SetDeviceStateFd(TransferDirection direction, int fd);
  absl::Status CheckDeviceState();
  absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid);

 private:
  Session& session_;
  const Agreement& agreement_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_DEVICE_REQUESTS_H_
