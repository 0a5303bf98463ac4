// SPDX-License-Identifier: MIT OR Apache-2.0
// Packed rings (virtio 1.3, 2.8).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/packed_inflight.h"
#include "vhost/queue/ring.h"
#include "vhost/queue/shared_access.h"

namespace gmem::vhost::virtqueue_internal {
namespace {

// Flags of descriptors. One that is available has a kAvailable equal to the driver's wrap counter
// and a different kUsed; one that is used has both equal to the device's.
constexpr uint16_t kAvailable = 1 << 7;
constexpr uint16_t kUsed = 1 << 15;
// Offsets in both event suppression structures: a position, then flags.
constexpr size_t kEventPosition = 0;
constexpr size_t kEventFlags = 2;
// The flags' values: notify always, never, or at the position.
constexpr uint16_t kEventEnable = 0;
constexpr uint16_t kEventDisable = 1;
constexpr uint16_t kEventDescriptor = 2;
// The wrap counter in a position: the other bits are an index.
constexpr uint16_t kWrap = 1 << 15;

// The entry where the device goes on, of the two positions in a base. From the used to the
// available one lie the chains in flight, fewer entries than the ring has: if all were in flight,
// or more, the next back-end could know them from an inflight buffer only, which has its own
// positions. So such a base comes from a front-end that knows only the available position and sends
// 0 for the other (DPDK), and nothing is in flight.
PackedPosition UsedOf(const PackedPosition& available, const PackedPosition& used, uint32_t size) {
  const uint32_t end = available.index + (available.wrap != used.wrap ? size : 0);
  return end >= used.index && end - used.index < size ? used : available;
}

PackedPosition FromBase(uint32_t base) {
  return {.index = static_cast<uint16_t>(base & ~kWrap & 0xffff), .wrap = (base & kWrap) != 0};
}
uint16_t ToBase(const PackedPosition& position) {
  return static_cast<uint16_t>(position.index | (position.wrap ? kWrap : 0));
}

class PackedRing final : public Ring {
 public:
  PackedRing(const Virtqueue::Options& options, const Virtqueue::Memory& memory, uint32_t base)
      : Ring(options, memory),
        next_available_(FromBase(base)),
        next_used_(UsedOf(next_available_, FromBase(base >> 16), options.size)),
        chain_(options.size) {
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
  uint32_t base() const override {
    return ToBase(next_available_) | uint32_t{ToBase(next_used_)} << 16;
  }

 private:
  uint8_t* Slot(uint16_t index) const {
    return memory_.descriptors.data() + index * sizeof(PackedDescriptor);
  }
  uint8_t* FlagsOf(uint16_t index) const { return Slot(index) + offsetof(PackedDescriptor, flags); }
  bool IsAvailable() const {
    const auto flags = LoadAcquire<uint16_t>(FlagsOf(next_available_.index));
    return ((flags & kAvailable) != 0) == next_available_.wrap &&
           ((flags & kUsed) != 0) != next_available_.wrap;
  }
  // Copies the next chain from the ring to chain_. Returns its number of descriptors; 0 if it has
  // no end.
  uint16_t Fetch();
  // Adds the first @count descriptors of chain_.
  Popped Walk(uint16_t count, ChainBuilder& builder) const;

  PackedPosition next_available_;
  PackedPosition next_used_;
  // Entries of the chains that were popped and not yet pushed.
  uint32_t in_flight_ = 0;
  // Entries that were used since the last notification, if there was one.
  uint32_t used_since_ = 0;
  bool was_notified_ = false;
  // The chain that Pop() works on.
  std::vector<PackedDescriptor> chain_;
  std::optional<PackedInflight> inflight_;
  // The first entry that is staged: without its flags, the driver sees none of them.
  struct Staged {
    uint16_t index = 0;
    uint16_t flags = 0;
  };
  std::optional<Staged> first_staged_;
  // The staged chains' first entries in the inflight region.
  std::vector<uint16_t> staged_;
};

absl::Status PackedRing::TrackInflight(GuestSpan region) {
  PackedInflight inflight(options_.index, static_cast<uint16_t>(options_.size));
  // Has the driver got the entry at this position back? It may have made the entry available again,
  // for its next lap, which changes kAvailable only.
  const auto is_used = [this](const PackedPosition& position) {
    const auto flags = LoadAcquire<uint16_t>(FlagsOf(position.index));
    return ((flags & kUsed) != 0) == position.wrap;
  };
  GMEM_ASSIGN_OR_RETURN(const PackedInflight::Recovered recovered,
                        inflight.Attach(region, next_used_, is_used));
  if (recovered.is_old) {
    next_used_ = recovered.used;
    next_available_ = next_used_;
    next_available_.Advance(recovered.nr_descriptors, options_.size);
    in_flight_ = recovered.nr_descriptors;
    // A push of more than one chain that the driver hasn't seen may have left used entries behind
    // the first one's place: the next push would publish them.
    PackedPosition at = next_used_;
    for (uint32_t i = 0; i < recovered.nr_descriptors; i++) {
      if (is_used(at)) StoreRelease(FlagsOf(at.index), at.wrap ? kAvailable : kUsed);
      at.Advance(1, options_.size);
    }
  }
  inflight_.emplace(std::move(inflight));
  return absl::OkStatus();
}

uint16_t PackedRing::Fetch() {
  uint16_t index = next_available_.index;
  for (uint32_t count = 0; count < options_.size; count++) {
    chain_[count] = LoadOnce<PackedDescriptor>(Slot(index));
    if ((chain_[count].flags & kDescriptorNext) == 0) return static_cast<uint16_t>(count + 1);
    index = index + 1U == options_.size ? 0 : index + 1;
  }
  return 0;
}

Popped PackedRing::Walk(uint16_t count, ChainBuilder& builder) const {
  for (uint16_t i = 0; i < count; i++) {
    const PackedDescriptor& descriptor = chain_[i];
    if ((descriptor.flags & kDescriptorIndirect) != 0) {
      if (!options_.has_indirect) {
        return builder.Break("an indirect table, which wasn't negotiated");
      }
      if (count != 1) return builder.Break("an indirect table among other descriptors");
      return builder.AddTable(descriptor.address, descriptor.length, /*is_linked=*/false);
    }
    const Popped popped = builder.Add(descriptor.address, descriptor.length,
                                      (descriptor.flags & kDescriptorWrite) != 0);
    if (popped != Popped::kChain) return popped;
  }
  return Popped::kChain;
}

Popped PackedRing::Pop(ChainBuilder& builder, RingToken& token) {
  const std::optional<uint16_t> old = inflight_ ? inflight_->next_old() : std::nullopt;
  if (!old && !IsAvailable()) return Popped::kNothing;
  const uint16_t count = old ? inflight_->CopyOld(*old, absl::MakeSpan(chain_)) : Fetch();
  if (count == 0) return builder.Break("a loop of descriptors");
  // The driver has made entries available that are in flight.
  if (!old && count > options_.size - in_flight_) {
    return builder.Break(absl::StrCat("a chain of ", count, " descriptors, with ", in_flight_,
                                      " of ", options_.size, " in flight"));
  }
  const Popped popped = Walk(count, builder);
  if (popped != Popped::kChain) return popped;
  uint16_t entry = 0;
  if (old) {
    entry = *old;
    inflight_->TakeOld();
  } else {
    if (inflight_) entry = inflight_->Add(absl::MakeConstSpan(chain_.data(), count));
    next_available_.Advance(count, options_.size);
    in_flight_ += count;
  }
  // The last descriptor has the buffer's id.
  token = {.id = chain_[count - 1].id,
           .slots = count,
           .nr_spans = 0,
           .entry = entry,
           .is_old = old.has_value()};
  return Popped::kChain;
}

// The chain's descriptors are still in the ring: used entries fill the places of chains that were
// popped before it.
void PackedRing::Unpop(const RingToken& token) {
  if (token.is_old) {
    inflight_->ReturnOld(token.entry);
    return;
  }
  next_available_.Retreat(token.slots, options_.size);
  in_flight_ -= token.slots;
  if (inflight_) inflight_->Cancel(token.entry);
}

UsedWrite PackedRing::Stage(const RingToken& token, uint32_t written) {
  const uint16_t index = next_used_.index;
  const bool wrap = next_used_.wrap;
  uint8_t* const slot = Slot(index);
  std::memcpy(slot + offsetof(PackedDescriptor, length), &written, sizeof(written));
  std::memcpy(slot + offsetof(PackedDescriptor, id), &token.id, sizeof(token.id));
  next_used_.Advance(token.slots, options_.size);
  if (inflight_) inflight_->BeginRemove(token.entry, next_used_);
  const auto flags =
      static_cast<uint16_t>((wrap ? kAvailable | kUsed : 0) | (written > 0 ? kDescriptorWrite : 0));
  // The driver looks at the first entry before it looks at those behind it.
  if (first_staged_) {
    StoreRelease(FlagsOf(index), flags);
  } else {
    first_staged_ = {.index = index, .flags = flags};
  }
  if (inflight_) staged_.push_back(token.entry);
  in_flight_ -= token.slots;
  used_since_ = std::min(used_since_ + token.slots, 2 * options_.size);
  return {.offset = index * sizeof(PackedDescriptor), .size = sizeof(PackedDescriptor)};
}

void PackedRing::Publish() {
  if (!first_staged_) return;
  StoreRelease(FlagsOf(first_staged_->index), first_staged_->flags);
  first_staged_.reset();
  if (!inflight_) return;
  for (const uint16_t entry : staged_) inflight_->EndRemove(entry);
  inflight_->EndBatch();
  staged_.clear();
}

bool PackedRing::ShouldNotify() {
  FullFence();
  if (used_since_ == 0) return false;
  const uint32_t since = used_since_;
  const bool first = !was_notified_;
  used_since_ = 0;
  was_notified_ = true;
  const uint8_t* const event = memory_.available.data();
  const auto flags = LoadAcquire<uint16_t>(event + kEventFlags);
  if (flags != kEventDescriptor || !options_.has_event_idx || first) {
    return flags != kEventDisable;
  }
  const PackedPosition wanted = FromBase(LoadAcquire<uint16_t>(event + kEventPosition));
  // Compare as if the ring had no end: entries of the last lap lie below 0.
  const auto size = static_cast<int32_t>(options_.size);
  int32_t at = wanted.index;
  if (wanted.wrap != next_used_.wrap) at -= size;
  const int32_t now = next_used_.index;
  return at < now && at >= now - static_cast<int32_t>(since);
}

void PackedRing::DisableKicks() { StoreRelease(memory_.used.data() + kEventFlags, kEventDisable); }

bool PackedRing::EnableKicks() {
  uint8_t* const event = memory_.used.data();
  if (options_.has_event_idx) {
    StoreRelease(event + kEventPosition, ToBase(next_available_));
    StoreRelease(event + kEventFlags, kEventDescriptor);
  } else {
    StoreRelease(event + kEventFlags, kEventEnable);
  }
  FullFence();
  return (inflight_ && inflight_->next_old()) || IsAvailable();
}

bool PackedRing::AwaitMore() {
  // The end of what is available isn't known without a search, so ask for a kick for each chain.
  StoreRelease(memory_.used.data() + kEventFlags, kEventEnable);
  FullFence();
  return false;
}

}  // namespace

std::unique_ptr<Ring> MakePackedRing(const Virtqueue::Options& options,
                                     const Virtqueue::Memory& memory, uint32_t base) {
  return std::make_unique<PackedRing>(options, memory, base);
}

}  // namespace gmem::vhost::virtqueue_internal
