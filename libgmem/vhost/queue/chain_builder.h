// SPDX-License-Identifier: Apache-2.0
// From descriptors to a chain: the checks that both kinds of rings share. Not installed.
#ifndef GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_
#define GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// Flags of descriptors (virtio 1.3, 2.7.5 and 2.8).
inline constexpr uint16_t kDescriptorNext = 1;
inline constexpr uint16_t kDescriptorWrite = 2;
inline constexpr uint16_t kDescriptorIndirect = 4;

// A descriptor of a split ring.
struct SplitDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(SplitDescriptor) == 16);

struct PackedDescriptor {
  uint64_t address;
  uint32_t length;
  uint16_t id;
  uint16_t flags;
};
static_assert(sizeof(PackedDescriptor) == 16);

// A copy of what the peer may change meanwhile: it is read once, here.
template <typename T>
T LoadOnce(const uint8_t* from) {
  T copy;
  asm volatile("" ::: "memory");
  std::memcpy(&copy, from, sizeof(copy));
  asm volatile("" : : "r"(&copy) : "memory");
  return copy;
}

// Does an event lie among those from @old to @now? (virtio 1.3, 2.7.10)
inline bool PassedEvent(uint16_t event, uint16_t now, uint16_t old) {
  return static_cast<uint16_t>(now - event - 1) < static_cast<uint16_t>(now - old);
}

class ChainBuilder {
 public:
  enum class Outcome { kOk, kMiss, kBroken };

  ChainBuilder(const GuestMemoryMap& memory, Chain& chain) : memory_(memory), chain_(chain) {
    chain_.nr_spans_ = chain_.nr_readable_ = 0;
    chain_.readable_size_ = chain_.writable_size_ = 0;
  }

  // Adds what a descriptor describes.
  Outcome Add(uint64_t address, uint32_t length, bool is_writable);

  // Adds the descriptors of an indirect table, each of which is read once: linked, or, in
  // a packed ring, one after the other.
  Outcome AddTable(uint64_t address, uint32_t length, bool is_linked);

  void Finish(const Chain::Token& token) { chain_.token_ = token; }

  // After kMiss: what to ask for.
  uint64_t miss_address() const { return miss_address_; }
  GuestAccess miss_access() const { return miss_access_; }
  // After kBroken.
  const absl::Status& error() const { return error_; }
  Outcome Broken(absl::string_view why);

 private:
  Outcome Translate(uint64_t address, uint64_t length, GuestAccess access, size_t& nr_spans);
  const GuestMemoryMap& memory_;
  Chain& chain_;
  size_t nr_descriptors_ = 0;
  uint64_t miss_address_ = 0;
  GuestAccess miss_access_ = GuestAccess::kRead;
  absl::Status error_;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_
