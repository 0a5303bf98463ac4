// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/iotlb_misses.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/status.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/channel.h"

namespace gmem::vhost::backend_internal {

void IotlbMisses::Ask(uint64_t iova, uint8_t permissions) {
  const IotlbMiss miss = IotlbMiss::Of(iova, permissions);
  const bool is_due = std::any_of(asked_.begin(), asked_.end(), [&](const Asked& asked) {
    return asked.is_relied_on && asked.miss.page == miss.page &&
           miss.IsAllowedBy(asked.miss.permissions);
  });
  if (is_due || !channel_.is_open()) return;
  if (asked_.size() == kMaxAsked) asked_.erase(asked_.begin());
  const uint64_t number = next_number_++;
  asked_.push_back({.miss = miss, .number = number});
  const IotlbMessage request = {.iova = iova,
                                .size = 0,
                                .user_address = 0,
                                .permissions = permissions,
                                .type = IotlbType::kMiss,
                                .padding = {}};
  channel_.Start<BackendRequest::kIotlbMsg>(request, {},
                                            [this, number](const absl::StatusOr<Message*>& reply) {
                                              HandleReply(number, reply.status());
                                            });
}

void IotlbMisses::Answer(const IotlbMessage& update) {
  std::erase_if(asked_, [&](const Asked& asked) { return asked.miss.IsIn(update); });
}

void IotlbMisses::AskAgain() {
  for (Asked& asked : asked_) asked.is_relied_on = false;
}

void IotlbMisses::HandleReply(uint64_t number, const absl::Status& reply) {
  if (reply.ok()) return;
  const auto asked = std::find_if(asked_.begin(), asked_.end(),
                                  [&](const Asked& one) { return one.number == number; });
  if (asked == asked_.end()) return;
  const IotlbMiss miss = asked->miss;
  asked_.erase(asked);
  on_failure_(miss, GetErrno(reply) == EIO ? Failure::kRefused : Failure::kLost);
}

}  // namespace gmem::vhost::backend_internal
