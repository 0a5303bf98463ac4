// SPDX-License-Identifier: MIT OR Apache-2.0
// The chains that a device has. Not installed.
#ifndef GMEM_VHOST_QUEUE_IN_FLIGHT_H_
#define GMEM_VHOST_QUEUE_IN_FLIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/ring.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// The chains that were popped and neither pushed nor put back, in the order of the pops. A name
// (Chain::Token) that Add() has given is good until its chain is removed: a device that keeps a
// chain for too long can't push it in the place of a later one.
class InFlight {
 public:
  // @max: at most this number of chains, 1 to kMaxQueueSize.
  explicit InFlight(uint32_t max);

  size_t size() const { return size_; }
  bool is_full() const { return size_ == records_.size(); }
  // Of all chains together.
  size_t nr_spans() const { return nr_spans_; }
  // Grows with each chain that is popped, and shrinks with each that is put back.
  uint64_t nr_popped() const { return nr_popped_; }
  // The serial number of the last pop, which never shrinks: a chain that was put back and popped
  // again has a new one.
  uint64_t last_pop() const { return last_pop_; }

  // These keep the memory of a chain mapped.
  using Holds = std::vector<std::shared_ptr<const GuestSpan>>;

  // Call this only if there is room. Takes the content of @holds and leaves it empty.
  Chain::Token Add(const RingToken& chain, Holds& holds);
  // Null if no chain in flight has that name.
  const RingToken* Find(const Chain::Token& name) const;
  // The memory of a chain in flight.
  const Holds& holds(const Chain::Token& name) const { return records_[name.place].holds; }
  // Is @is_it true for the memory of a chain in flight?
  bool AnyOf(absl::FunctionRef<bool(const Holds&)> is_it) const;
  // The chain was pushed. It must be in flight.
  void Remove(const Chain::Token& name);
  // The chains that were popped since last_pop() was @pop are lost.
  void RemoveSince(uint64_t pop);

  // The chain that was popped last. Null if it is no longer in flight: what was popped before it
  // can't be put back either, since the ring counts chains from its beginning.
  const RingToken* last() const;
  // Is @name the name of last()?
  bool IsLast(const Chain::Token& name) const { return last() != nullptr && name.place == last_; }
  // It was put back. It must be in flight.
  void RemoveLast();

 private:
  static constexpr uint16_t kNone = 0xffff;
  struct Record {
    RingToken chain;
    bool is_used = false;
    // Differs from that of the 65,534 chains that had this place before. Never 0, as in an empty
    // name. Chain::Token, which is part of the ABI, has no more bits.
    uint16_t generation = 1;
    // The places of its neighbours in the order of the pops; of a free place, only the next free.
    uint16_t previous = kNone;
    uint16_t next = kNone;
    // Its number among all that were popped, and the serial number of its pop.
    uint64_t number = 0;
    uint64_t pop = 0;
    Holds holds;
  };

  // A record keeps the room for this number of holds. More are rare: a guest could let each record
  // have room for them.
  static constexpr size_t kMaxKeptHolds = 8;

  void Free(uint16_t place);

  std::vector<Record> records_;
  size_t size_ = 0;
  size_t nr_spans_ = 0;
  uint16_t free_ = 0;
  uint16_t last_ = kNone;
  uint64_t nr_popped_ = 0;
  uint64_t last_pop_ = 0;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_IN_FLIGHT_H_
