// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/iotlb.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
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

struct __attribute__((visibility("hidden"))) Iotlb::State {
  struct Entry {
    // Inclusive: a range may end where the addresses of 64 bits do.
    uint64_t last = 0;
    uint64_t user_address = 0;
    uint8_t permissions = 0;
    uint64_t age = 0;
  };

  // Also removes the entries that lie in the range only in part: the back-end asks for them again.
  void Invalidate(uint64_t first, uint64_t last);

  // By their first address; they don't overlap.
  std::map<uint64_t, Entry> entries;
  uint64_t next_age = 0;
};

Iotlb::Iotlb() : state_(std::make_unique<State>()) {}
Iotlb::Iotlb(Iotlb&& other) noexcept = default;
Iotlb& Iotlb::operator=(Iotlb&& other) noexcept = default;
Iotlb::~Iotlb() = default;

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
    state_->Invalidate(message.iova, last);
    return absl::OkStatus();
  }
  if (message.permissions == 0 || (message.permissions & ~(kIotlbRead | kIotlbWrite)) != 0) {
    return CheckError(EINVAL, absl::StrCat("IOTLB_MSG: permissions ",
                                           static_cast<int>(message.permissions), ", not 1 to 3"));
  }
  state_->Invalidate(message.iova, last);
  auto& entries = state_->entries;
  if (entries.size() == kMaxEntries) {
    entries.erase(
        std::min_element(entries.begin(), entries.end(),
                         [](const auto& a, const auto& b) { return a.second.age < b.second.age; }));
  }
  entries.emplace(message.iova, State::Entry{.last = last,
                                             .user_address = message.user_address,
                                             .permissions = message.permissions,
                                             .age = state_->next_age++});
  return absl::OkStatus();
}

void Iotlb::State::Invalidate(uint64_t first, uint64_t last) {
  auto entry = entries.upper_bound(first);
  if (entry != entries.begin() && std::prev(entry)->second.last >= first) --entry;
  while (entry != entries.end() && entry->first <= last) entry = entries.erase(entry);
}

std::optional<Iotlb::Translation> Iotlb::Find(uint64_t iova) const {
  const auto& entries = state_->entries;
  auto entry = entries.upper_bound(iova);
  if (entry == entries.begin()) return std::nullopt;
  --entry;
  if (entry->second.last < iova) return std::nullopt;
  const uint64_t beyond = entry->second.last - iova;
  return Translation{.user_address = entry->second.user_address + (iova - entry->first),
                     .size = beyond == kMaxAddress ? beyond : beyond + 1,
                     .permissions = entry->second.permissions};
}

size_t Iotlb::size() const { return state_->entries.size(); }
void Iotlb::Clear() { state_->entries.clear(); }

}  // namespace gmem::vhost
