// SPDX-License-Identifier: Apache-2.0
// Split rings (virtio 1.3, 2.7).
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/inflight_format.h"
#include "vhost/queue/ring.h"

namespace gmem::vhost {
namespace virtqueue_internal {
namespace {

// Of both the available and the used part: flags, index, entries, then an event index.
constexpr size_t kFlags = 0;
constexpr size_t kIndex = 2;
constexpr size_t kEntries = 4;
constexpr uint16_t kNoNotify = 1;

struct UsedEntry {
  uint32_t id;
  uint32_t written;
};

class SplitRing final : public Ring {
 public:
  SplitRing(const Virtqueue::Options& options, const Virtqueue::Memory& memory, uint32_t base)
      : Ring(options, memory),
        next_available_(static_cast<uint16_t>(base)),
        next_used_(LoadAcquire<uint16_t>(memory_.used.data() + kIndex)),
        notified_(next_used_) {}

  absl::Status TrackInflight(GuestSpan region) override;
  Popped Pop(ChainBuilder& builder) override;
  UsedWrite Push(const Chain::Token& token, uint32_t written) override;
  bool ShouldNotify() override;
  void DisableKicks() override;
  bool EnableKicks() override;
  uint32_t base() const override { return next_available_; }

 private:
  size_t Slot(uint16_t index) const { return index & (options_.size - 1); }
  const uint8_t* UsedEvent() const {
    return memory_.available.data() + kEntries + 2 * static_cast<size_t>(options_.size);
  }
  uint8_t* AvailableEvent() const {
    return memory_.used.data() + kEntries + sizeof(UsedEntry) * options_.size;
  }
  uint16_t AvailableIndex() const {
    return LoadAcquire<uint16_t>(memory_.available.data() + kIndex);
  }
  InflightSplitHeader* header() const {
    return reinterpret_cast<InflightSplitHeader*>(inflight_.data());
  }
  InflightSplitEntry* entry(size_t i) const {
    return reinterpret_cast<InflightSplitEntry*>(inflight_.data() + sizeof(InflightSplitHeader)) +
           i;
  }
  ChainBuilder::Outcome Walk(uint16_t head, ChainBuilder& builder) const;
  absl::Status Recover(const InflightSplitHeader& header);

  // Free-running.
  uint16_t next_available_;
  uint16_t next_used_;
  // Where the driver was told of used entries last, and if it ever was.
  uint16_t notified_;
  bool was_notified_ = false;
  GuestSpan inflight_;
  uint64_t counter_ = 0;
  // Written to the region, and never read from there.
  uint16_t last_batch_head_ = 0;
  // Heads that a back-end before this one left; the next at the end.
  std::vector<uint16_t> resubmit_;
};

absl::Status SplitRing::TrackInflight(GuestSpan region) {
  const uint64_t size = sizeof(InflightSplitHeader) + options_.size * sizeof(InflightSplitEntry);
  if (region.size() < size) {
    return internal::CheckError(EBADMSG,
                                absl::StrCat("virtqueue ", options_.index, " has ", options_.size,
                                             " entries, its inflight region is of ", region.size(),
                                             " bytes: ", size, " are needed"));
  }
  inflight_ = region;
  const auto copy = LoadOnce<InflightSplitHeader>(region.data());
  if (copy.version != 0) return Recover(copy);
  header()->features = 0;
  header()->nr_entries = static_cast<uint16_t>(options_.size);
  header()->last_batch_head = 0;
  header()->used_index = next_used_;
  for (size_t i = 0; i < options_.size; i++) *entry(i) = {};
  StoreRelease(reinterpret_cast<uint8_t*>(&header()->version), kInflightVersion);
  return absl::OkStatus();
}

absl::Status SplitRing::Recover(const InflightSplitHeader& header_copy) {
  // The table has one entry for each descriptor, whatever the front-end says elsewhere.
  const size_t room = (inflight_.size() - sizeof(InflightSplitHeader)) / sizeof(InflightSplitEntry);
  if (header_copy.version != kInflightVersion || header_copy.nr_entries < options_.size ||
      header_copy.nr_entries > room) {
    return internal::CheckError(
        EBADMSG, absl::StrCat("virtqueue ", options_.index, " of ", options_.size,
                              " entries: its inflight region has version ", header_copy.version,
                              " and ", header_copy.nr_entries));
  }
  std::vector<InflightSplitEntry> entries(header_copy.nr_entries);
  for (size_t i = 0; i < entries.size(); i++) {
    entries[i] = LoadOnce<InflightSplitEntry>(reinterpret_cast<const uint8_t*>(entry(i)));
  }
  // What was pushed last, but not yet noted as pushed.
  const auto batch = static_cast<uint16_t>(next_used_ - header_copy.used_index);
  uint16_t pushed = header_copy.last_batch_head;
  for (uint16_t i = 0; i < batch; i++) {
    if (batch > options_.size || pushed >= options_.size) {
      return internal::CheckError(
          EBADMSG, absl::StrCat("virtqueue ", options_.index,
                                ": its inflight region ends at used entry ", header_copy.used_index,
                                " and descriptor ", pushed, ", the ring at ", next_used_));
    }
    entries[pushed].inflight = 0;
    entry(pushed)->inflight = 0;
    pushed = entries[pushed].next;
  }
  header()->used_index = next_used_;
  last_batch_head_ = header_copy.last_batch_head;

  std::vector<InflightChain> left;
  for (size_t i = 0; i < entries.size(); i++) {
    if (entries[i].inflight == 0) continue;
    if (i >= options_.size) {
      return internal::CheckError(EBADMSG,
                                  absl::StrCat("virtqueue ", options_.index, " of ", options_.size,
                                               " entries: descriptor ", i, " is in flight"));
    }
    left.push_back({.counter = entries[i].counter, .entry = static_cast<uint16_t>(i)});
  }
  std::sort(left.begin(), left.end(),
            [](const InflightChain& a, const InflightChain& b) { return a.counter > b.counter; });
  if (!left.empty()) counter_ = left.front().counter + 1;
  resubmit_.clear();
  for (const InflightChain& chain : left) resubmit_.push_back(chain.entry);
  // Whatever the front-end believes: so many were taken.
  next_available_ = static_cast<uint16_t>(next_used_ + resubmit_.size());
  return absl::OkStatus();
}

ChainBuilder::Outcome SplitRing::Walk(uint16_t head, ChainBuilder& builder) const {
  using Outcome = ChainBuilder::Outcome;
  uint16_t index = head;
  for (uint32_t i = 0; i < options_.size; i++) {
    if (index >= options_.size) {
      return builder.Broken(absl::StrCat("descriptor ", index, " of ", options_.size));
    }
    const auto descriptor =
        LoadOnce<SplitDescriptor>(memory_.descriptors.data() + index * sizeof(SplitDescriptor));
    const bool has_next = (descriptor.flags & kDescriptorNext) != 0;
    Outcome outcome = Outcome::kOk;
    if ((descriptor.flags & kDescriptorIndirect) == 0) {
      outcome = builder.Add(descriptor.address, descriptor.length,
                            (descriptor.flags & kDescriptorWrite) != 0);
    } else if (!options_.has_indirect || has_next) {
      outcome =
          builder.Broken(options_.has_indirect ? "a chain goes on behind an indirect table"
                                               : "an indirect table, which wasn't negotiated");
    } else {
      outcome = builder.AddTable(descriptor.address, descriptor.length, /*is_linked=*/true);
    }
    if (outcome != Outcome::kOk || !has_next) return outcome;
    index = descriptor.next;
  }
  return builder.Broken("a loop of descriptors");
}

Ring::Popped SplitRing::Pop(ChainBuilder& builder) {
  uint16_t head = 0;
  const bool is_resubmitted = !resubmit_.empty();
  if (is_resubmitted) {
    head = resubmit_.back();
  } else {
    const uint16_t available = AvailableIndex();
    if (available == next_available_) return Popped::kNone;
    // No more than the ring has, less what is in flight (CVE-2026-86846).
    if (static_cast<uint16_t>(available - next_available_) > options_.size ||
        static_cast<uint16_t>(available - next_used_) > options_.size) {
      builder.Broken(absl::StrCat("available index ", available, ", used index ", next_used_,
                                  ", with ", options_.size, " entries"));
      return Popped::kBroken;
    }
    head = LoadOnce<uint16_t>(memory_.available.data() + kEntries + 2 * Slot(next_available_));
  }
  switch (Walk(head, builder)) {
    case ChainBuilder::Outcome::kMiss:
      return Popped::kMiss;
    case ChainBuilder::Outcome::kBroken:
      return Popped::kBroken;
    case ChainBuilder::Outcome::kOk:
      break;
  }
  builder.Finish({.id = head, .slots = 1, .entry = 0});
  if (is_resubmitted) {
    resubmit_.pop_back();
    return Popped::kChain;
  }
  next_available_++;
  if (!inflight_.empty()) {
    entry(head)->counter = counter_++;
    StoreRelease<uint8_t>(&entry(head)->inflight, 1);
  }
  return Popped::kChain;
}

UsedWrite SplitRing::Push(const Chain::Token& token, uint32_t written) {
  const size_t offset = kEntries + sizeof(UsedEntry) * Slot(next_used_);
  const UsedEntry used = {.id = token.id, .written = written};
  std::memcpy(memory_.used.data() + offset, &used, sizeof(used));
  if (!inflight_.empty()) {
    entry(token.id)->next = last_batch_head_;
    last_batch_head_ = token.id;
    StoreRelease(reinterpret_cast<uint8_t*>(&header()->last_batch_head), token.id);
  }
  next_used_++;
  StoreRelease(memory_.used.data() + kIndex, next_used_);
  if (!inflight_.empty()) {
    StoreRelease<uint8_t>(&entry(token.id)->inflight, 0);
    StoreRelease(reinterpret_cast<uint8_t*>(&header()->used_index), next_used_);
  }
  return {.offset = offset, .size = sizeof(used)};
}

bool SplitRing::ShouldNotify() {
  FullFence();
  if (notified_ == next_used_) return false;
  const uint16_t old = std::exchange(notified_, next_used_);
  const bool is_first = !std::exchange(was_notified_, true);
  if (!options_.has_event_idx) {
    return (LoadAcquire<uint16_t>(memory_.available.data() + kFlags) & kNoNotify) == 0;
  }
  return is_first || PassedEvent(LoadAcquire<uint16_t>(UsedEvent()), next_used_, old);
}

void SplitRing::DisableKicks() {
  // With event indices, one that stays behind does it.
  if (!options_.has_event_idx) StoreRelease(memory_.used.data() + kFlags, kNoNotify);
}

bool SplitRing::EnableKicks() {
  if (options_.has_event_idx) {
    StoreRelease(AvailableEvent(), next_available_);
  } else {
    StoreRelease<uint16_t>(memory_.used.data() + kFlags, 0);
  }
  FullFence();
  return !resubmit_.empty() || AvailableIndex() != next_available_;
}

}  // namespace

std::unique_ptr<Ring> MakeSplitRing(const Virtqueue::Options& options,
                                    const Virtqueue::Memory& memory, uint32_t base) {
  return std::make_unique<SplitRing>(options, memory, base);
}

}  // namespace virtqueue_internal
}  // namespace gmem::vhost
