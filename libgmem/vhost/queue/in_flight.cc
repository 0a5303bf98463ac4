// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/in_flight.h"

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "gmem/vhost/chain.h"
#include "vhost/queue/ring.h"

namespace gmem::vhost::virtqueue_internal {

InFlight::InFlight(uint32_t max) : records_(max) {
  for (size_t i = 0; i + 1 < records_.size(); i++) records_[i].next = static_cast<uint16_t>(i + 1);
}

Chain::Token InFlight::Add(const RingToken& chain, Holds& holds) {
  const uint16_t place = free_;
  Record& record = records_[place];
  free_ = record.next;
  record.chain = chain;
  record.is_used = true;
  record.previous = last_;
  record.next = kNone;
  record.number = nr_popped_++;
  record.pop = ++last_pop_;
  // The record's own is empty, and its room is for a later chain.
  record.holds.swap(holds);
  if (last_ != kNone) records_[last_].next = place;
  last_ = place;
  size_++;
  nr_spans_ += chain.nr_spans;
  return {.id = chain.id, .generation = record.generation, .place = place};
}

const RingToken* InFlight::Find(const Chain::Token& name) const {
  if (name.place >= records_.size()) return nullptr;
  const Record& record = records_[name.place];
  const bool is_it =
      record.is_used && record.generation == name.generation && record.chain.id == name.id;
  return is_it ? &record.chain : nullptr;
}

bool InFlight::AnyOf(absl::FunctionRef<bool(const Holds&)> is_it) const {
  for (uint16_t place = last_; place != kNone; place = records_[place].previous) {
    if (is_it(records_[place].holds)) return true;
  }
  return false;
}

void InFlight::RemoveSince(uint64_t pop) {
  while (last_ != kNone && records_[last_].pop > pop) Free(last_);
}

void InFlight::Remove(const Chain::Token& name) { Free(name.place); }

const RingToken* InFlight::last() const {
  if (last_ == kNone || records_[last_].number + 1 != nr_popped_) return nullptr;
  return &records_[last_].chain;
}

void InFlight::RemoveLast() {
  Free(last_);
  nr_popped_--;
}

void InFlight::Free(uint16_t place) {
  Record& record = records_[place];
  record.is_used = false;
  if (record.holds.capacity() > kMaxKeptHolds) {
    Holds().swap(record.holds);
  } else {
    record.holds.clear();
  }
  if (++record.generation == 0) record.generation = 1;
  if (record.previous != kNone) records_[record.previous].next = record.next;
  if (record.next != kNone) {
    records_[record.next].previous = record.previous;
  } else {
    last_ = record.previous;
  }
  record.next = free_;
  free_ = place;
  size_--;
  nr_spans_ -= record.chain.nr_spans;
}

}  // namespace gmem::vhost::virtqueue_internal
