// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/iotlb.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

constexpr uint64_t kMaxAddress = std::numeric_limits<uint64_t>::max();

bool Wraps(uint64_t address, uint64_t size) { return size - 1 > kMaxAddress - address; }

}  // namespace

absl::Status Iotlb::Apply(const IotlbMessage& message) {
  if (message.type != IotlbType::kUpdate && message.type != IotlbType::kInvalidate) {
    return CheckError(EINVAL, absl::StrCat("IOTLB_MSG: type ", static_cast<int>(message.type),
                                           " is neither an update nor an invalidation"));
  }
  const bool is_update = message.type == IotlbType::kUpdate;
  if (message.size == 0 || Wraps(message.iova, message.size) ||
      (is_update && Wraps(message.user_address, message.size))) {
    return CheckError(EINVAL, absl::StrCat("IOTLB_MSG: ", message.size, " bytes from 0x",
                                           absl::Hex(message.iova), " on are no range"));
  }
  const uint64_t last = message.iova + (message.size - 1);
  if (!is_update) {
    Invalidate(message.iova, last);
    return absl::OkStatus();
  }
  if (message.permissions == 0 || (message.permissions & ~(kIotlbRead | kIotlbWrite)) != 0) {
    return CheckError(EINVAL, absl::StrCat("IOTLB_MSG: permissions ",
                                           static_cast<int>(message.permissions), ", not 1 to 3"));
  }
  Invalidate(message.iova, last);
  if (entries_.size() == kMaxEntries) {
    entries_.erase(
        std::min_element(entries_.begin(), entries_.end(),
                         [](const auto& a, const auto& b) { return a.second.age < b.second.age; }));
  }
  entries_.emplace(message.iova, Entry{.last = last,
                                       .user_address = message.user_address,
                                       .permissions = message.permissions,
                                       .age = next_age_++});
  return absl::OkStatus();
}

// An entry that lies there only in part goes as a whole: it is asked for again.
void Iotlb::Invalidate(uint64_t first, uint64_t last) {
  auto entry = entries_.upper_bound(first);
  if (entry != entries_.begin() && std::prev(entry)->second.last >= first) --entry;
  while (entry != entries_.end() && entry->first <= last) entry = entries_.erase(entry);
}

std::optional<Iotlb::Translation> Iotlb::Find(uint64_t iova) const {
  auto entry = entries_.upper_bound(iova);
  if (entry == entries_.begin()) return std::nullopt;
  --entry;
  if (entry->second.last < iova) return std::nullopt;
  const uint64_t beyond = entry->second.last - iova;
  return Translation{.user_address = entry->second.user_address + (iova - entry->first),
                     .size = beyond == kMaxAddress ? beyond : beyond + 1,
                     .permissions = entry->second.permissions};
}

}  // namespace gmem::vhost
