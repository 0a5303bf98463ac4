// SPDX-License-Identifier: Apache-2.0
#include "session.h"

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "status_util.h"
#include "vhost/testing_driver_ring.h"

namespace gmem::vhost::testing {
namespace {

// How long a back-end may take to come up, on a busy machine.
constexpr absl::Duration kStartTimeout = absl::Seconds(30);

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> Session::Connect(const std::string& path,
                                                          uint64_t features,
                                                          uint64_t protocol_features) {
  GMEM_ASSIGN_OR_RETURN(Connection connection, Connection::Connect(path, kStartTimeout));
  auto session = std::make_unique<Session>(std::move(connection));
  GMEM_RETURN_IF_ERROR(session->Negotiate(features, protocol_features));
  return session;
}

absl::Status Session::Negotiate(uint64_t features, uint64_t protocol_features) {
  GMEM_ASSIGN_OR_RETURN(const uint64_t offered, Call<FrontendRequest::kGetFeatures>());
  features_ =
      offered & (features | Bit(VirtioFeature::kProtocolFeatures) | Bit(VirtioFeature::kVersion1));
  GMEM_ASSIGN_OR_RETURN(const uint64_t protocol_offered,
                        Call<FrontendRequest::kGetProtocolFeatures>());
  protocol_features_ = protocol_offered & (protocol_features | Bit(ProtocolFeature::kReplyAck));
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetProtocolFeatures>(protocol_features_).status());
  requester_.set_reply_ack((protocol_features_ & Bit(ProtocolFeature::kReplyAck)) != 0);
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetOwner>().status());
  return Call<FrontendRequest::kSetFeatures>(features_).status();
}

void Session::Wait() {
  pollfd channel = {.fd = requester_.fd(),
                    .events = static_cast<short>(POLLIN | (requester_.wants_write() ? POLLOUT : 0)),
                    .revents = 0};
  const absl::Duration left = requester_.next_deadline() - absl::Now();
  poll(&channel, 1, std::max<int>(0, absl::ToInt64Milliseconds(left) + 1));
  // What failed is told to the request that waits.
  requester_.Process().IgnoreError();
}

absl::Status Session::SetMemory(const DriverMemory& memory) {
  MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {memory.region()}};
  return Call<FrontendRequest::kSetMemTable>(table, {memory.fd()}).status();
}

absl::Status Session::StartQueue(uint32_t index, const DriverRing& ring, uint16_t base) {
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetVringNum>({index, ring.size()}).status());
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetVringBase>({index, base}).status());
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetVringAddr>(ring.address(index)).status());
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetVringCall>(index, {ring.call_fd()}).status());
  GMEM_RETURN_IF_ERROR(Call<FrontendRequest::kSetVringKick>(index, {ring.kick_fd()}).status());
  return Call<FrontendRequest::kSetVringEnable>({index, 1}).status();
}

absl::StatusOr<uint16_t> Session::StopQueue(uint32_t index) {
  GMEM_ASSIGN_OR_RETURN(const VringState state, Call<FrontendRequest::kGetVringBase>({index, 0}));
  return static_cast<uint16_t>(state.num);
}

absl::StatusOr<ConfigSpace> Session::GetConfig(uint32_t offset, uint32_t size) {
  ConfigSpace config = {.offset = offset, .size = size, .flags = 0, .bytes = {}};
  return Call<FrontendRequest::kGetConfig>(config);
}

}  // namespace gmem::vhost::testing
