// SPDX-License-Identifier: MIT OR Apache-2.0
// The operations that split and packed rings share. Not installed.
#ifndef GMEM_VHOST_QUEUE_RING_H_
#define GMEM_VHOST_QUEUE_RING_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/chain_builder.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// A ring's name for a chain.
struct RingToken {
  // The head's index; in a packed ring, the buffer's id.
  uint16_t id = 0;
  // Descriptors of the ring that the chain has.
  uint16_t slots = 0;
  // Pieces of memory.
  uint32_t nr_spans = 0;
  // In a packed ring: its first entry in the inflight region.
  uint16_t entry = 0;
  // The back-end before this one has popped it, so the ring's position is behind it already.
  bool is_old = false;
};

// The bytes of the used part that a push wrote, for the dirty log; in a packed ring, of the
// descriptors.
struct UsedWrite {
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Walks a ring, and knows which of its entries are the device's. The caller has checked the size
// and the alignment of the memory. See Virtqueue for the methods.
class __attribute__((visibility("hidden"))) Ring {
 public:
  Ring(const Virtqueue::Options& options, const Virtqueue::Memory& memory)
      : options_(options), memory_(memory) {}
  virtual ~Ring() = default;

  virtual absl::Status TrackInflight(GuestSpan region) = 0;
  // Without a chain, the ring hasn't changed; the builder knows what is missing or broken.
  virtual Popped Pop(ChainBuilder& builder, RingToken& token) = 0;
  // Writes a used entry that the driver doesn't see yet.
  virtual UsedWrite Stage(const RingToken& token, uint32_t written) = 0;
  // Shows the driver all entries that were staged, at once.
  virtual void Publish() = 0;
  // Puts back the chain that was popped last; it must be in flight.
  virtual void Unpop(const RingToken& token) = 0;
  // Does the driver want a notification for the pushes since the last call?
  virtual bool ShouldNotify() = 0;
  virtual void DisableKicks() = 0;
  virtual bool EnableKicks() = 0;
  virtual bool AwaitMore() = 0;
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

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_RING_H_
