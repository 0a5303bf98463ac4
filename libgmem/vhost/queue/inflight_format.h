// SPDX-License-Identifier: MIT OR Apache-2.0
// The layout of a queue's part of an inflight buffer, see "Inflight I/O tracking" in the
// vhost-user specification. Not installed.
#ifndef GMEM_VHOST_QUEUE_INFLIGHT_FORMAT_H_
#define GMEM_VHOST_QUEUE_INFLIGHT_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// A header whose version is 0 belongs to a region that no back-end has used.
inline constexpr uint16_t kInflightVersion = 1;

struct InflightSplitEntry {
  uint8_t inflight;
  std::array<uint8_t, 5> padding;
  // The entry that was pushed before this one.
  uint16_t next;
  uint64_t counter;
};
struct InflightSplitHeader {
  uint64_t features;
  uint16_t version;
  uint16_t nr_entries;
  uint16_t last_batch_head;
  uint16_t used_index;
};

struct InflightPackedEntry {
  uint8_t inflight;
  uint8_t padding;
  // The next entry of the free list, or of the same chain.
  uint16_t next;
  // In the first entry of a chain: the index of its last entry, and its number of entries.
  uint16_t last;
  uint16_t count;
  uint64_t counter;
  uint16_t id;
  uint16_t flags;
  uint32_t length;
  uint64_t address;
};
struct InflightPackedHeader {
  uint64_t features;
  uint16_t version;
  uint16_t nr_entries;
  uint16_t free_head;
  uint16_t old_free_head;
  uint16_t used_index;
  uint16_t old_used_index;
  uint8_t used_wrap;
  uint8_t old_used_wrap;
  std::array<uint8_t, 7> padding;
};

static_assert(sizeof(InflightSplitEntry) == 16);
static_assert(sizeof(InflightSplitHeader) == 16);
static_assert(sizeof(InflightPackedEntry) == 32);
static_assert(sizeof(InflightPackedHeader) == 32);

// A chain that the back-end before this one left: its first entry, and a counter that is higher for
// chains that were popped later.
struct InflightChain {
  uint64_t counter = 0;
  uint16_t entry = 0;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_INFLIGHT_FORMAT_H_
