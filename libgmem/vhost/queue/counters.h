// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts of one virtqueue that any thread may read. Not installed.
#ifndef GMEM_VHOST_QUEUE_COUNTERS_H_
#define GMEM_VHOST_QUEUE_COUNTERS_H_

#include <atomic>
#include <cstdint>

#include "gmem/vhost/virtqueue.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost {
namespace virtqueue_internal {

// A number that one thread at a time changes: so no change needs an atomic read-modify-write.
class Counter {
 public:
  void Add(uint64_t count) {
    value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

}  // namespace virtqueue_internal

// See QueueCounters. Virtqueues of different threads share no cache line.
struct __attribute__((visibility("hidden"), aligned(64))) Virtqueue::Counters {
  virtqueue_internal::Counter kicks;
  virtqueue_internal::Counter calls;
  virtqueue_internal::Counter chains;
  virtqueue_internal::Counter bytes;
  virtqueue_internal::Counter errors;
};

}  // namespace gmem::vhost
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_COUNTERS_H_
