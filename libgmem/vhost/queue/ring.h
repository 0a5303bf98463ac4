// SPDX-License-Identifier: Apache-2.0
// What split and packed rings have in common. Not installed.
#ifndef GMEM_VHOST_QUEUE_RING_H_
#define GMEM_VHOST_QUEUE_RING_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/chain_builder.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// Of the used part of the ring: what a push wrote, for the dirty log. Bytes from its
// start.
struct UsedWrite {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// A ring's walk and its bookkeeping. The memory was checked: size and alignment.
class Ring {
 public:
  enum class Popped { kNone, kChain, kMiss, kBroken };

  Ring(const Virtqueue::Options& options, const Virtqueue::Memory& memory)
      : options_(options), memory_(memory) {}
  virtual ~Ring() = default;

  virtual absl::Status TrackInflight(GuestSpan region) = 0;
  // Without a chain, nothing has changed.
  virtual Popped Pop(ChainBuilder& builder) = 0;
  virtual UsedWrite Push(const Chain::Token& token, uint32_t written) = 0;
  virtual bool ShouldNotify() = 0;
  virtual void DisableKicks() = 0;
  virtual bool EnableKicks() = 0;
  virtual uint32_t base() const = 0;

  void Move(const Virtqueue::Memory& memory) { memory_ = memory; }

 protected:
  const Virtqueue::Options options_;
  Virtqueue::Memory memory_;
};

std::unique_ptr<Ring> MakeSplitRing(const Virtqueue::Options& options,
                                    const Virtqueue::Memory& memory, uint32_t base);
std::unique_ptr<Ring> MakePackedRing(const Virtqueue::Options& options,
                                     const Virtqueue::Memory& memory, uint32_t base);

template <typename T>
T LoadAcquire(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const T*>(at), __ATOMIC_ACQUIRE);
}
template <typename T>
void StoreRelease(uint8_t* at, T value) {
  __atomic_store_n(reinterpret_cast<T*>(at), value, __ATOMIC_RELEASE);
}
// What was stored before is seen before what is loaded after it is asked for.
inline void FullFence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_RING_H_
