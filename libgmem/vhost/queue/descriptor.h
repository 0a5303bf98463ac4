// SPDX-License-Identifier: MIT OR Apache-2.0
// Descriptors, as a driver writes them (virtio 1.3, 2.7.5 and 2.8). Not installed.
#ifndef GMEM_VHOST_QUEUE_DESCRIPTOR_H_
#define GMEM_VHOST_QUEUE_DESCRIPTOR_H_

#include <cstddef>
#include <cstdint>

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

inline constexpr uint16_t kDescriptorNext = 1;
inline constexpr uint16_t kDescriptorWrite = 2;
inline constexpr uint16_t kDescriptorIndirect = 4;

struct SplitDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(SplitDescriptor) == 16);

// Offsets in both the available and the used part of a split ring: flags, an index, the entries. An
// event index follows the entries (virtio 1.3, 2.7.6 and 2.7.8).
inline constexpr size_t kSplitFlags = 0;
inline constexpr size_t kSplitIndex = 2;
inline constexpr size_t kSplitEntries = 4;
// The only flag: the peer wants no notifications.
inline constexpr uint16_t kSplitNoNotify = 1;

struct SplitUsedEntry {
  uint32_t id;
  uint32_t written;
};

struct PackedDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t id;
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == 16);

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_DESCRIPTOR_H_
