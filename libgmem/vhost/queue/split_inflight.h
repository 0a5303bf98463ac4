// SPDX-License-Identifier: MIT OR Apache-2.0
// The chains in flight in a split ring, noted in shared memory. Not installed.
#ifndef GMEM_VHOST_QUEUE_SPLIT_INFLIGHT_H_
#define GMEM_VHOST_QUEUE_SPLIT_INFLIGHT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/inflight_format.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// A queue's part of an inflight buffer. Attach() reads and checks it; later it is only written, so
// that a front-end that changes it does no harm.
class SplitInflight {
 public:
  // @index and @size: the virtqueue's, for error texts and checks.
  SplitInflight(uint16_t index, uint32_t size) : index_(index), size_(size) {}

  // Takes over @region. True if a back-end before this one has used it. @used: the used index of
  // the ring. DataLoss (EBADMSG) if the region can't be right.
  absl::StatusOr<bool> Attach(GuestSpan region, uint16_t used);

  // The chains in flight that the back-end before this one left, which Pop() brings first.
  size_t nr_old() const { return old_.size(); }
  // The head of the oldest.
  std::optional<uint16_t> next_old() const {
    if (old_.empty()) return std::nullopt;
    return old_.back().entry;
  }
  void TakeOld() { old_.pop_back(); }
  // The reverse, of the last one.
  void ReturnOld(uint16_t head) { old_.push_back({.counter = 0, .entry = head}); }

  // Notes a chain.
  void Add(uint16_t head);
  // The reverse: the next back-end finds the chain in the ring.
  void Cancel(uint16_t head);
  // For one or more chains: call BeginRemove() for each before the ring's used index covers any of
  // them, and EndRemove() for each after that, then EndBatch(). @used: that index.
  void BeginRemove(uint16_t head);
  void EndRemove(uint16_t head);
  void EndBatch(uint16_t used);

 private:
  InflightSplitHeader* header() const {
    return reinterpret_cast<InflightSplitHeader*>(region_.data());
  }
  InflightSplitEntry* shared(size_t i) const {
    return reinterpret_cast<InflightSplitEntry*>(region_.data() + sizeof(InflightSplitHeader)) + i;
  }
  void Format(uint16_t used);
  absl::Status Recover(const InflightSplitHeader& header_copy, uint16_t used);
  absl::Status Bad(absl::string_view what) const;

  uint16_t index_;
  uint32_t size_;
  GuestSpan region_;
  uint64_t counter_ = 0;
  uint16_t last_batch_head_ = 0;
  // The oldest at the end.
  std::vector<InflightChain> old_;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_SPLIT_INFLIGHT_H_
