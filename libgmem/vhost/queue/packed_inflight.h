// SPDX-License-Identifier: Apache-2.0
// What is in flight in a packed ring, noted in shared memory. Not installed.
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
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/inflight_format.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// A place in a packed ring, and in which lap.
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
};

// The region's free list and chains are also kept here: the region is only written to,
// once it was read and checked.
class PackedInflight {
 public:
  struct Recovered {
    // Did a back-end before this one leave something? If not, the rest says nothing.
    bool is_old = false;
    PackedPosition used;
    // In flight.
    uint16_t nr_descriptors = 0;
  };

  PackedInflight(uint16_t index, uint16_t size) : index_(index), size_(size), entries_(size) {}

  // @used: where the ring's used entries go on, for a region that is new. @is_used: was
  // the ring's entry there given back?
  absl::StatusOr<Recovered> Attach(GuestSpan region, const PackedPosition& used,
                                   absl::FunctionRef<bool(const PackedPosition&)> is_used);

  // The first entry of the oldest chain that is to be done again.
  std::optional<uint16_t> next_old() const {
    if (old_.empty()) return std::nullopt;
    return old_.back().entry;
  }
  // Copies its descriptors: how many.
  uint16_t CopyOld(uint16_t entry, absl::Span<PackedDescriptor> to) const;
  void TakeOld() { old_.pop_back(); }

  // Notes a chain; its first entry.
  uint16_t Add(absl::Span<const PackedDescriptor> chain);
  // Before the ring says that a chain is used, and after. @used: behind it.
  void BeginRemove(uint16_t entry, const PackedPosition& used);
  void EndRemove(uint16_t entry);

 private:
  InflightPackedHeader* header() const {
    return reinterpret_cast<InflightPackedHeader*>(region_.data());
  }
  InflightPackedEntry* shared(uint16_t i) const {
    return reinterpret_cast<InflightPackedEntry*>(region_.data() + sizeof(InflightPackedHeader)) +
           i;
  }
  void Format(const PackedPosition& used);
  absl::StatusOr<Recovered> Recover(absl::FunctionRef<bool(const PackedPosition&)> is_used);
  absl::Status FindChains(Recovered& recovered);
  absl::Status Bad(absl::string_view what) const;

  uint16_t index_;
  uint16_t size_;
  GuestSpan region_;
  std::vector<InflightPackedEntry> entries_;
  uint16_t free_head_ = 0;
  uint64_t counter_ = 0;
  // The oldest at the end.
  std::vector<InflightChain> old_;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_PACKED_INFLIGHT_H_
