// SPDX-License-Identifier: MIT OR Apache-2.0
// The chains in flight in a packed ring, noted in shared memory. Not installed.
#ifndef GMEM_VHOST_QUEUE_PACKED_INFLIGHT_H_
#define GMEM_VHOST_QUEUE_PACKED_INFLIGHT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/inflight_format.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// An entry of a packed ring, and the wrap counter of the lap that it belongs to.
struct PackedPosition {
  uint16_t index = 0;
  bool wrap = true;

  // @count: at most @size.
  void Advance(uint32_t count, uint32_t size) {
    uint32_t next = index + count;
    if (next >= size) {
      next -= size;
      wrap = !wrap;
    }
    index = static_cast<uint16_t>(next);
  }
  void Retreat(uint32_t count, uint32_t size) {
    if (count > index) wrap = !wrap;
    index = static_cast<uint16_t>(count > index ? index + size - count : index - count);
  }
  // The entries from here to @end, which is at most one lap ahead. More than @size if it can't be.
  uint32_t DistanceTo(const PackedPosition& end, uint32_t size) const {
    return end.index + (end.wrap != wrap ? size : 0) - index;
  }
};

// A queue's part of an inflight buffer. Attach() reads and checks it, and keeps a copy; later it is
// only written, so that a front-end that changes it does no harm.
class PackedInflight {
 public:
  struct Recovered {
    // Has a back-end before this one used the region? If not, the rest says nothing.
    bool is_old = false;
    // The next used entry of the ring.
    PackedPosition used;
    // Descriptors of the chains in flight.
    uint16_t nr_descriptors = 0;
  };

  // @index and @size: the virtqueue's.
  PackedInflight(uint16_t index, uint16_t size) : index_(index), size_(size), entries_(size) {}

  // Takes over @region. @used: the next used entry of the ring, for a new region. @is_used: has the
  // driver got the ring's entry at a position back? DataLoss (EBADMSG) if the region can't be
  // right.
  absl::StatusOr<Recovered> Attach(GuestSpan region, const PackedPosition& used,
                                   absl::FunctionRef<bool(const PackedPosition&)> is_used);

  // The first entry of the oldest chain in flight that the back-end before this one left: Pop()
  // brings these first.
  std::optional<uint16_t> next_old() const {
    if (old_.empty()) return std::nullopt;
    return old_.back().entry;
  }
  // Copies the descriptors of that chain, and returns their number. @to: at least the virtqueue's
  // size.
  uint16_t CopyOld(uint16_t entry, absl::Span<PackedDescriptor> to) const;
  void TakeOld() { old_.pop_back(); }
  // The reverse, of the last one.
  void ReturnOld(uint16_t entry) { old_.push_back({.counter = 0, .entry = entry}); }

  // Notes a chain, and returns its first entry.
  uint16_t Add(absl::Span<const PackedDescriptor> chain);
  // The reverse: the next back-end finds the chain in the ring.
  void Cancel(uint16_t entry);
  // For one or more chains: call BeginRemove() for each before the ring has any of them among its
  // used entries, and EndRemove() for each after that, then EndBatch(). @used: the next used entry.
  // A back-end may be killed between any two stores, so their order counts: BeginRemove() stores
  // the head of the free list before the position, and EndBatch() both old ones in the same order.
  // If both heads are one free entry, Attach() takes the push as done.
  void BeginRemove(uint16_t entry, const PackedPosition& used);
  void EndRemove(uint16_t entry);
  void EndBatch();

 private:
  InflightPackedHeader* header() const {
    return reinterpret_cast<InflightPackedHeader*>(region_.data());
  }
  InflightPackedEntry* shared(uint16_t i) const {
    return reinterpret_cast<InflightPackedEntry*>(region_.data() + sizeof(InflightPackedHeader)) +
           i;
  }
  // Lets @next follow @entry, in both copies. The value never comes from the shared one.
  void Link(uint16_t entry, uint16_t next) {
    entries_[entry].next = next;
    shared(entry)->next = next;
  }
  void Format(const PackedPosition& used);
  absl::StatusOr<Recovered> Recover(absl::FunctionRef<bool(const PackedPosition&)> is_used);
  absl::Status FindChains(Recovered& recovered);
  // Notes that the pushes up to @used are done.
  void StoreOld(uint16_t free_head, const PackedPosition& used);
  absl::Status Bad(absl::string_view what) const;

  uint16_t index_;
  uint16_t size_;
  GuestSpan region_;
  std::vector<InflightPackedEntry> entries_;
  uint16_t free_head_ = 0;
  // That of the last BeginRemove().
  PackedPosition used_;
  uint64_t counter_ = 0;
  // The oldest at the end.
  std::vector<InflightChain> old_;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_PACKED_INFLIGHT_H_
