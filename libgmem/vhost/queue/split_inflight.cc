// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/split_inflight.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/inflight_format.h"
#include "vhost/queue/shared_access.h"

namespace gmem::vhost::virtqueue_internal {

absl::Status SplitInflight::Bad(absl::string_view what) const {
  return internal::CheckError(EBADMSG, absl::StrCat("the inflight region of virtqueue ", index_,
                                                    ", which has ", size_, " entries: ", what));
}

absl::StatusOr<bool> SplitInflight::Attach(GuestSpan region, uint16_t used) {
  const uint64_t size = sizeof(InflightSplitHeader) + size_ * sizeof(InflightSplitEntry);
  if (region.size() < size) {
    return Bad(absl::StrCat(region.size(), " bytes; ", size, " are needed"));
  }
  region_ = region;
  const auto header_copy = LoadOnce<InflightSplitHeader>(region.data());
  if (header_copy.version == 0) {
    Format(used);
    return false;
  }
  GMEM_RETURN_IF_ERROR(Recover(header_copy, used));
  return true;
}

void SplitInflight::Format(uint16_t used) {
  header()->features = 0;
  header()->nr_entries = static_cast<uint16_t>(size_);
  header()->last_batch_head = 0;
  header()->used_index = used;
  for (size_t i = 0; i < size_; i++) *shared(i) = {};
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->version), kInflightVersion);
}

absl::Status SplitInflight::Recover(const InflightSplitHeader& header_copy, uint16_t used) {
  // The table must have an entry for each descriptor, and must lie in the region.
  const size_t room = (region_.size() - sizeof(InflightSplitHeader)) / sizeof(InflightSplitEntry);
  if (header_copy.version != kInflightVersion || header_copy.nr_entries < size_ ||
      header_copy.nr_entries > room) {
    return Bad(
        absl::StrCat("version ", header_copy.version, " and ", header_copy.nr_entries, " entries"));
  }
  std::vector<InflightSplitEntry> entries(header_copy.nr_entries);
  for (size_t i = 0; i < entries.size(); i++) {
    entries[i] = LoadOnce<InflightSplitEntry>(reinterpret_cast<const uint8_t*>(shared(i)));
  }
  // The ring already has the last pushes, but the region may still have them in flight.
  const auto batch = static_cast<uint16_t>(used - header_copy.used_index);
  uint16_t pushed = header_copy.last_batch_head;
  for (uint16_t i = 0; i < batch; i++) {
    if (batch > size_ || pushed >= size_) {
      return Bad(absl::StrCat("it ends at used entry ", header_copy.used_index, " and descriptor ",
                              pushed, ", the ring at ", used));
    }
    entries[pushed].inflight = 0;
    shared(pushed)->inflight = 0;
    pushed = entries[pushed].next;
  }
  // Behind the stores to the entries: if this back-end is killed, too, the next one needs the old
  // index to find them.
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->used_index), used);
  last_batch_head_ = header_copy.last_batch_head;

  old_.clear();
  for (size_t i = 0; i < entries.size(); i++) {
    if (entries[i].inflight == 0) continue;
    if (i >= size_) return Bad(absl::StrCat("descriptor ", i, " is in flight"));
    old_.push_back({.counter = entries[i].counter, .entry = static_cast<uint16_t>(i)});
  }
  std::sort(old_.begin(), old_.end(),
            [](const InflightChain& a, const InflightChain& b) { return a.counter > b.counter; });
  if (!old_.empty()) counter_ = old_.front().counter + 1;
  return absl::OkStatus();
}

void SplitInflight::Add(uint16_t head) {
  shared(head)->counter = counter_++;
  StoreRelease<uint8_t>(&shared(head)->inflight, 1);
}

void SplitInflight::Cancel(uint16_t head) { StoreRelease<uint8_t>(&shared(head)->inflight, 0); }

void SplitInflight::BeginRemove(uint16_t head) {
  shared(head)->next = last_batch_head_;
  last_batch_head_ = head;
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->last_batch_head), head);
}

void SplitInflight::EndRemove(uint16_t head) { StoreRelease<uint8_t>(&shared(head)->inflight, 0); }

void SplitInflight::EndBatch(uint16_t used) {
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->used_index), used);
}

}  // namespace gmem::vhost::virtqueue_internal
