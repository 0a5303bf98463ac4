// SPDX-License-Identifier: Apache-2.0
// A front-end as tests need it: what a device is started with, each step waiting for the
// back-end's answer.
#ifndef GMEM_SELFTESTS_VHOST_SESSION_H_
#define GMEM_SELFTESTS_VHOST_SESSION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/testing_driver_ring.h"

namespace gmem::vhost::testing {

class Session {
 public:
  /// Connects, waiting for the socket to be there, and negotiates what both have of
  /// @p features (PROTOCOL_FEATURES and VERSION_1 are always asked for) and
  /// @p protocol_features (so is REPLY_ACK).
  static absl::StatusOr<std::unique_ptr<Session>> Connect(const std::string& path,
                                                          uint64_t features,
                                                          uint64_t protocol_features);

  explicit Session(Connection connection) : requester_(std::move(connection)) {}

  uint64_t features() const { return features_; }
  uint64_t protocol_features() const { return protocol_features_; }

  absl::Status SetMemory(const DriverMemory& memory);
  /// The device goes on after @p base chains.
  absl::Status StartQueue(uint32_t index, const DriverRing& ring, uint16_t base = 0);
  /// How many chains the device took.
  absl::StatusOr<uint16_t> StopQueue(uint32_t index);
  absl::StatusOr<ConfigSpace> GetConfig(uint32_t offset, uint32_t size);

  template <auto kRequest>
  absl::StatusOr<typename RequestTraits<kRequest>::Reply> Call(
      const typename RequestTraits<kRequest>::Payload& payload = {},
      absl::Span<const int> fds = {}) {
    using Reply = typename RequestTraits<kRequest>::Reply;
    std::optional<absl::StatusOr<Reply>> result;
    requester_.Start<kRequest>(payload, fds, [&result](absl::StatusOr<Message*> reply) {
      if (!reply.ok()) {
        result = reply.status();
      } else {
        result = *reply == nullptr ? Reply() : FromBytes<Reply>((*reply)->bytes());
      }
    });
    while (!result.has_value()) Wait();
    return *std::move(result);
  }

 private:
  // For something to happen on the channel.
  void Wait();
  absl::Status Negotiate(uint64_t features, uint64_t protocol_features);

  Requester requester_;
  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
};

}  // namespace gmem::vhost::testing

#endif  // GMEM_SELFTESTS_VHOST_SESSION_H_
