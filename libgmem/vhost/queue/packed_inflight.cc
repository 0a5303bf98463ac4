// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/packed_inflight.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/inflight_format.h"
#include "vhost/queue/shared_access.h"

namespace gmem::vhost::virtqueue_internal {

absl::Status PackedInflight::Bad(absl::string_view what) const {
  return internal::CheckError(
      EBADMSG, absl::StrCat("the inflight region of virtqueue ", index_, ": ", what));
}

absl::StatusOr<PackedInflight::Recovered> PackedInflight::Attach(
    GuestSpan region, const PackedPosition& used,
    absl::FunctionRef<bool(const PackedPosition&)> is_used) {
  const size_t size = sizeof(InflightPackedHeader) + size_ * sizeof(InflightPackedEntry);
  if (region.size() < size) {
    return Bad(absl::StrCat(region.size(), " bytes; ", size_, " entries need ", size));
  }
  region_ = region;
  if (LoadOnce<InflightPackedHeader>(region.data()).version != 0) return Recover(is_used);
  Format(used);
  return Recovered();
}

void PackedInflight::Format(const PackedPosition& used) {
  for (uint16_t i = 0; i < size_; i++) {
    entries_[i] = {};
    entries_[i].next = static_cast<uint16_t>(i + 1 == size_ ? 0 : i + 1);
    *shared(i) = entries_[i];
  }
  InflightPackedHeader header = {};
  header.nr_entries = size_;
  header.used_index = header.old_used_index = used.index;
  header.used_wrap = header.old_used_wrap = used.wrap ? 1 : 0;
  *this->header() = header;
  StoreRelease(reinterpret_cast<uint8_t*>(&this->header()->version), kInflightVersion);
}

absl::StatusOr<PackedInflight::Recovered> PackedInflight::Recover(
    absl::FunctionRef<bool(const PackedPosition&)> is_used) {
  auto header = LoadOnce<InflightPackedHeader>(region_.data());
  if (header.version != kInflightVersion || header.nr_entries != size_) {
    return Bad(absl::StrCat("version ", header.version, " and ", header.nr_entries,
                            " entries, not ", size_));
  }
  // When all entries are in flight, other back-ends let the free list begin behind the last.
  if (header.free_head > size_ || header.old_free_head > size_ || header.used_index >= size_ ||
      header.old_used_index >= size_ || header.used_wrap > 1 || header.old_used_wrap > 1) {
    return Bad("an index in its header is out of bounds");
  }
  for (uint16_t i = 0; i < size_; i++) {
    entries_[i] = LoadOnce<InflightPackedEntry>(reinterpret_cast<const uint8_t*>(shared(i)));
  }
  const PackedPosition old_used = {.index = header.old_used_index,
                                   .wrap = header.old_used_wrap != 0};
  const PackedPosition new_used = {.index = header.used_index, .wrap = header.used_wrap != 0};
  const uint32_t nr_pushed = old_used.DistanceTo(new_used, size_);
  // The back-end stopped in EndBatch(), after its first store: the old positions are of no use, for
  // one may have a new index and an old wrap counter, or the reverse.
  const bool is_done = header.free_head == header.old_free_head && header.free_head < size_ &&
                       entries_[header.free_head].inflight == 0;
  // Or in the middle of a push: has the ring got it? If so, the entries that it pushed are the
  // first of the free list. Count them: if all entries were in flight, the old list was empty, and
  // where it began says nothing.
  //
  // This back-end may be killed here, too, so each store leaves a state that the next one finishes
  // in the same way.
  if (nr_pushed > 0 && (is_done || is_used(old_used))) {
    if (!is_done && nr_pushed > size_) return Bad("it has more used entries than the ring");
    std::vector<uint16_t> pushed;
    uint16_t entry = header.free_head;
    for (uint32_t i = 0; i < nr_pushed && !is_done; i++) {
      if (entry >= size_) return Bad("its free list leads out of it");
      pushed.push_back(entry);
      entry = entries_[entry].next;
    }
    // The head of the list last, as in a push: if it is free, the push may look done.
    for (auto free = pushed.rbegin(); free != pushed.rend(); ++free) EndRemove(*free);
    StoreOld(header.free_head, new_used);
  } else {
    // The head last: next to a new position, it would look like a push that is done.
    StoreRelease<uint8_t>(&this->header()->used_wrap, header.old_used_wrap);
    StoreRelease(reinterpret_cast<uint8_t*>(&this->header()->used_index), header.old_used_index);
    StoreRelease(reinterpret_cast<uint8_t*>(&this->header()->free_head), header.old_free_head);
    header.free_head = header.old_free_head;
    header.used_index = header.old_used_index;
    header.used_wrap = header.old_used_wrap;
  }

  free_head_ = header.free_head;
  Recovered recovered = {.is_old = true,
                         .used = {.index = header.used_index, .wrap = header.used_wrap != 0},
                         .nr_descriptors = 0};
  GMEM_RETURN_IF_ERROR(FindChains(recovered));
  return recovered;
}

// Each entry must belong to one chain or to the free list.
absl::Status PackedInflight::FindChains(Recovered& recovered) {
  std::vector<bool> is_taken(size_);
  const auto take = [&](uint16_t entry) {
    if (entry >= size_ || is_taken[entry]) return false;
    is_taken[entry] = true;
    return true;
  };
  // The back-end stopped in the middle of a pop if the entry at the head of the free list is in
  // flight: that entry is free. If no entry is free, the head says nothing.
  uint64_t nr_in_flight = 0;
  for (const InflightPackedEntry& entry : entries_) {
    if (entry.inflight != 0) nr_in_flight += entry.count;
  }
  if (nr_in_flight != size_) {
    if (free_head_ == size_) return Bad("entries are free, but the free list is empty");
    entries_[free_head_].inflight = 0;
  }

  old_.clear();
  for (uint16_t i = 0; i < size_; i++) {
    if (entries_[i].inflight == 0) continue;
    uint16_t entry = i;
    uint16_t last = i;
    if (entries_[i].count == 0 || entries_[i].count > size_) {
      return Bad(absl::StrCat("a chain of ", entries_[i].count, " descriptors"));
    }
    for (uint16_t n = 0; n < entries_[i].count; n++) {
      if (!take(entry))
        return Bad(absl::StrCat("entry ", entry, " is out of bounds or in two chains"));
      last = entry;
      entry = entries_[entry].next;
    }
    if (last != entries_[i].last) {
      return Bad(absl::StrCat("a chain ends at entry ", last, " and at ", entries_[i].last));
    }
    recovered.nr_descriptors = static_cast<uint16_t>(recovered.nr_descriptors + entries_[i].count);
    old_.push_back({.counter = entries_[i].counter, .entry = i});
  }
  // A new free list of all other entries, so that none is lost, and none is in it twice.
  std::optional<uint16_t> previous;
  for (uint16_t i = 0; i < size_; i++) {
    if (is_taken[i]) continue;
    entries_[i].inflight = 0;
    shared(i)->inflight = 0;
    if (previous) {
      Link(*previous, i);
    } else {
      free_head_ = i;
    }
    previous = i;
  }
  // Behind the stores to the entries: the old head may be in flight, see above, and is free as long
  // as it is the head.
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->free_head), free_head_);
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->old_free_head), free_head_);
  std::sort(old_.begin(), old_.end(),
            [](const InflightChain& a, const InflightChain& b) { return a.counter > b.counter; });
  if (!old_.empty()) counter_ = old_.front().counter + 1;
  return absl::OkStatus();
}

uint16_t PackedInflight::CopyOld(uint16_t entry, absl::Span<PackedDescriptor> to) const {
  const uint16_t count = entries_[entry].count;
  for (uint16_t i = 0; i < count; i++) {
    const InflightPackedEntry& from = entries_[entry];
    to[i] = {.address = from.address, .length = from.length, .id = from.id, .flags = from.flags};
    entry = from.next;
  }
  return count;
}

uint16_t PackedInflight::Add(absl::Span<const PackedDescriptor> chain) {
  const uint16_t first = free_head_;
  uint16_t last = first;
  for (const PackedDescriptor& descriptor : chain) {
    last = free_head_;
    InflightPackedEntry& entry = entries_[last];
    entry.address = descriptor.address;
    entry.length = descriptor.length;
    entry.id = descriptor.id;
    entry.flags = descriptor.flags;
    *shared(last) = entry;
    free_head_ = entry.next;
  }
  InflightPackedEntry& head = entries_[first];
  head.last = last;
  head.count = static_cast<uint16_t>(chain.size());
  head.counter = counter_++;
  *shared(first) = head;
  header()->free_head = free_head_;
  // From this store on, the next back-end finds the chain in flight.
  head.inflight = 1;
  StoreRelease<uint8_t>(&shared(first)->inflight, 1);
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->old_free_head), free_head_);
  return first;
}

void PackedInflight::Cancel(uint16_t entry) {
  const uint16_t last = entries_[entry].last;
  Link(last, free_head_);
  free_head_ = entry;
  // An entry in flight at the head of the free list is free, so the chain is in flight before the
  // last store, or free; the next back-end gets it in both cases.
  header()->free_head = entry;
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->old_free_head), entry);
  entries_[entry].inflight = 0;
  StoreRelease<uint8_t>(&shared(entry)->inflight, 0);
}

void PackedInflight::BeginRemove(uint16_t entry, const PackedPosition& used) {
  const uint16_t last = entries_[entry].last;
  Link(last, free_head_);
  free_head_ = entry;
  used_ = used;
  // In this order: a new position next to the old free list would look like a push that is done.
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->free_head), entry);
  StoreRelease<uint8_t>(&header()->used_wrap, used.wrap ? 1 : 0);
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->used_index), used.index);
}

void PackedInflight::EndRemove(uint16_t entry) {
  entries_[entry].inflight = 0;
  StoreRelease<uint8_t>(&shared(entry)->inflight, 0);
}

void PackedInflight::EndBatch() { StoreOld(free_head_, used_); }

void PackedInflight::StoreOld(uint16_t free_head, const PackedPosition& used) {
  // In this order: from the first store on, the next back-end doesn't ask the ring whether it has
  // the push, so that it needs no old position.
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->old_free_head), free_head);
  StoreRelease<uint8_t>(&header()->old_used_wrap, used.wrap ? 1 : 0);
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->old_used_index), used.index);
}

}  // namespace gmem::vhost::virtqueue_internal
