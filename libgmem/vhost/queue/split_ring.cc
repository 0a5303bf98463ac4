// SPDX-License-Identifier: MIT OR Apache-2.0
// Split rings (virtio 1.3, 2.7).
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/ring.h"
#include "vhost/queue/shared_access.h"
#include "vhost/queue/split_inflight.h"

namespace gmem::vhost::virtqueue_internal {
namespace {

// Does the index @event lie among those from @old to @now? (virtio 1.3, 2.7.10)
bool PassedEvent(uint16_t event, uint16_t now, uint16_t old) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - old);
}

class SplitRing final : public Ring {
 public:
  SplitRing(const Virtqueue::Options& options, const Virtqueue::Memory& memory, uint32_t base)
      : Ring(options, memory),
        next_available_(static_cast<uint16_t>(base)),
        next_used_(LoadAcquire<uint16_t>(memory_.used.data() + kSplitIndex)),
        notified_(next_used_) {
    staged_.reserve(options.size);
  }

  absl::Status TrackInflight(GuestSpan region) override;
  Popped Pop(ChainBuilder& builder, RingToken& token) override;
  UsedWrite Stage(const RingToken& token, uint32_t written) override;
  void Publish() override;
  void Unpop(const RingToken& token) override;
  bool ShouldNotify() override;
  void DisableKicks() override;
  bool EnableKicks() override;
  bool AwaitMore() override;
  uint32_t base() const override { return next_available_; }

 private:
  // Indices run free, and wrap at 65536; a slot is an entry of the ring.
  size_t Slot(uint16_t index) const { return index & (options_.size - 1); }
  const uint8_t* UsedEvent() const {
    return memory_.available.data() + kSplitEntries + 2 * static_cast<size_t>(options_.size);
  }
  uint8_t* AvailableEvent() const {
    return memory_.used.data() + kSplitEntries + sizeof(SplitUsedEntry) * options_.size;
  }
  uint16_t AvailableIndex() const {
    return LoadAcquire<uint16_t>(memory_.available.data() + kSplitIndex);
  }
  // Gets the head of the next chain that the driver made available: kChain if there is one.
  Popped NextHead(ChainBuilder& builder, uint16_t& head) const;
  // @count: the chain's descriptors in the ring.
  Popped Walk(uint16_t head, ChainBuilder& builder, uint16_t& count) const;

  uint16_t next_available_;
  uint16_t next_used_;
  // Descriptors of the chains that were popped and not yet pushed.
  uint32_t in_flight_ = 0;
  // The used index at the last notification, if there was one.
  uint16_t notified_;
  bool was_notified_ = false;
  std::optional<SplitInflight> inflight_;
  // The heads of the chains that are staged, for the inflight region.
  std::vector<uint16_t> staged_;
};

absl::Status SplitRing::TrackInflight(GuestSpan region) {
  SplitInflight inflight(options_.index, options_.size);
  GMEM_ASSIGN_OR_RETURN(const bool is_old, inflight.Attach(region, next_used_));
  // The driver made these available, whatever base the front-end has sent.
  if (is_old) next_available_ = static_cast<uint16_t>(next_used_ + inflight.nr_old());
  inflight_.emplace(std::move(inflight));
  return absl::OkStatus();
}

Popped SplitRing::Walk(uint16_t head, ChainBuilder& builder, uint16_t& count) const {
  uint16_t index = head;
  for (uint32_t i = 0; i < options_.size; i++) {
    count = static_cast<uint16_t>(i + 1);
    if (index >= options_.size) {
      return builder.Break(absl::StrCat("descriptor ", index, " of ", options_.size));
    }
    const auto descriptor =
        LoadOnce<SplitDescriptor>(memory_.descriptors.data() + index * sizeof(SplitDescriptor));
    const bool has_next = (descriptor.flags & kDescriptorNext) != 0;
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (!options_.has_indirect) {
        return builder.Break("an indirect table, which wasn't negotiated");
      }
      if (has_next) return builder.Break("a chain goes on behind an indirect table");
      return builder.AddTable(descriptor.address, descriptor.length, /*is_linked=*/true);
    }
    const Popped popped = builder.Add(descriptor.address, descriptor.length,
                                      (descriptor.flags & kDescriptorWrite) != 0);
    if (popped != Popped::kChain || !has_next) return popped;
    index = descriptor.next;
  }
  return builder.Break("a loop of descriptors");
}

Popped SplitRing::NextHead(ChainBuilder& builder, uint16_t& head) const {
  const uint16_t available = AvailableIndex();
  if (available == next_available_) return Popped::kNothing;
  // The driver can't have made more available than the ring has, less the chains in flight
  // (CVE-2026-86846).
  if (static_cast<uint16_t>(available - next_available_) > options_.size ||
      static_cast<uint16_t>(available - next_used_) > options_.size) {
    return builder.Break(absl::StrCat("available index ", available, ", used index ", next_used_,
                                      ", with ", options_.size, " entries"));
  }
  head = LoadOnce<uint16_t>(memory_.available.data() + kSplitEntries + 2 * Slot(next_available_));
  return Popped::kChain;
}

Popped SplitRing::Pop(ChainBuilder& builder, RingToken& token) {
  const std::optional<uint16_t> old = inflight_ ? inflight_->next_old() : std::nullopt;
  uint16_t head = old.value_or(0);
  Popped popped = old ? Popped::kChain : NextHead(builder, head);
  uint16_t count = 0;
  if (popped == Popped::kChain) popped = Walk(head, builder, count);
  if (popped != Popped::kChain) return popped;
  // Chains that share descriptors would let a small ring bring a device any number of pieces.
  if (count > options_.size - in_flight_) {
    return builder.Break(absl::StrCat("a chain of ", count, " descriptors, with ", in_flight_,
                                      " of ", options_.size, " in flight"));
  }
  in_flight_ += count;
  token = {.id = head, .slots = count, .nr_spans = 0, .entry = 0, .is_old = old.has_value()};
  if (old) {
    inflight_->TakeOld();
  } else {
    next_available_++;
    if (inflight_) inflight_->Add(head);
  }
  return Popped::kChain;
}

void SplitRing::Unpop(const RingToken& token) {
  in_flight_ -= token.slots;
  if (token.is_old) {
    inflight_->ReturnOld(token.id);
    return;
  }
  next_available_--;
  if (inflight_) inflight_->Cancel(token.id);
}

UsedWrite SplitRing::Stage(const RingToken& token, uint32_t written) {
  const size_t offset = kSplitEntries + sizeof(SplitUsedEntry) * Slot(next_used_);
  const SplitUsedEntry used = {.id = token.id, .written = written};
  std::memcpy(memory_.used.data() + offset, &used, sizeof(used));
  if (inflight_) inflight_->BeginRemove(token.id);
  next_used_++;
  if (inflight_) staged_.push_back(token.id);
  in_flight_ -= token.slots;
  return {.offset = offset, .size = sizeof(used)};
}

void SplitRing::Publish() {
  StoreRelease(memory_.used.data() + kSplitIndex, next_used_);
  if (!inflight_) return;
  for (const uint16_t head : staged_) inflight_->EndRemove(head);
  inflight_->EndBatch(next_used_);
  staged_.clear();
}

bool SplitRing::ShouldNotify() {
  FullFence();
  if (notified_ == next_used_) return false;
  const uint16_t old = std::exchange(notified_, next_used_);
  const bool is_first = !std::exchange(was_notified_, true);
  if (!options_.has_event_idx) {
    return (LoadAcquire<uint16_t>(memory_.available.data() + kSplitFlags) & kSplitNoNotify) == 0;
  }
  return is_first || PassedEvent(LoadAcquire<uint16_t>(UsedEvent()), next_used_, old);
}

void SplitRing::DisableKicks() {
  // With event indices, there is nothing to do: the driver has passed the old event index.
  if (!options_.has_event_idx) StoreRelease(memory_.used.data() + kSplitFlags, kSplitNoNotify);
}

bool SplitRing::EnableKicks() {
  if (options_.has_event_idx) {
    StoreRelease(AvailableEvent(), next_available_);
  } else {
    StoreRelease<uint16_t>(memory_.used.data() + kSplitFlags, 0);
  }
  FullFence();
  return (inflight_ && inflight_->next_old()) || AvailableIndex() != next_available_;
}

bool SplitRing::AwaitMore() {
  if (!options_.has_event_idx) {
    StoreRelease<uint16_t>(memory_.used.data() + kSplitFlags, 0);
    FullFence();
    return false;
  }
  // At next_available_ the driver has passed the event already, and wouldn't kick.
  const uint16_t available = AvailableIndex();
  StoreRelease(AvailableEvent(), available);
  FullFence();
  return AvailableIndex() != available;
}

}  // namespace

std::unique_ptr<Ring> MakeSplitRing(const Virtqueue::Options& options,
                                    const Virtqueue::Memory& memory, uint32_t base) {
  return std::make_unique<SplitRing>(options, memory, base);
}

}  // namespace gmem::vhost::virtqueue_internal
