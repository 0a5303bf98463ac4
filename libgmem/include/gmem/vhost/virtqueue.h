// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_VIRTQUEUE_H_
#define GMEM_VHOST_VIRTQUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The result of Virtqueue::Pop().
enum class Popped : uint8_t {
  /// There is a chain.
  kChain,
  /// There is no chain now: the driver has made none available, the ring can't be reached, the
  /// memory of the next chain was removed and may come again, or, on a thread of its own, the
  /// virtqueue has to wait for the session. In each case the device is called when there is one.
  kNothing,
  /// A translation is missing, see Virtqueue::miss(): the chain waits for the IOTLB.
  kMiss,
  /// The driver broke a rule, see Virtqueue::status(). There are no more chains.
  kBroken,
};

/// The device's side of a virtqueue, split or packed (virtio 1.3, 2.7 and 2.8).
///
/// The driver is hostile. Each of its values is read once and checked. A ring that breaks a rule is
/// refused as a whole: it stays refused until the virtqueue starts again.
///
/// Chains may be completed in any order. Pop() and Push() allocate nothing once the chains have had
/// their largest content, except for chains of more than Chain::kMaxSpans pieces or in many
/// regions: nothing keeps room for those.
///
/// Thread-compatible.
class Virtqueue {
 public:
  /// The pieces of memory that all chains in flight may have together. A driver can name the same
  /// indirect table again and again: without a bound, the lists of pieces would take all memory.
  static constexpr size_t kMaxSpansInFlight = size_t{1} << 22;

  struct Options {
    uint16_t index = 0;
    /// Entries: 1 to kMaxQueueSize; a power of two unless packed.
    uint32_t size = 0;
    bool is_packed = false;
    bool has_indirect = false;
    bool has_event_idx = false;
  };

  /// The parts of a ring in this process. Those of a packed ring are, in this order, its
  /// descriptors, the device's and the driver's event suppression.
  struct Memory {
    GuestSpan descriptors;
    GuestSpan used;
    GuestSpan available;
  };
  /// The bytes of each part.
  struct Sizes {
    uint64_t descriptors = 0;
    uint64_t used = 0;
    uint64_t available = 0;
  };
  static Sizes SizesOf(const Options& options);

  /// @p memory holds the buffers, and must outlive the virtqueue; @p base is the value of
  /// SET_VRING_BASE. InvalidArgument (EINVAL) if the size isn't possible, or a part of the
  /// ring is too small or not aligned.
  static absl::StatusOr<Virtqueue> Create(const GuestMemoryMap& memory, const Options& options,
                                          const Memory& ring, uint32_t base);

  Virtqueue(Virtqueue&& other) noexcept;
  Virtqueue& operator=(Virtqueue&& other) noexcept;
  ~Virtqueue();

  /// Notes the chains in flight in @p region, a queue's part of an inflight buffer. If the back-end
  /// before this one has left chains there, Pop() brings them first, in their old order. DataLoss
  /// (EBADMSG) if the region can't be right (CVE-2021-3839, CVE-2026-86565). Call this before the
  /// first Pop().
  absl::Status TrackInflight(GuestSpan region);

  uint16_t index() const;
  /// Entries.
  uint32_t size() const;

  /// Takes the next chain that the driver made available. A device takes all of them like this:
  ///
  ///     while (queue.Pop(chain) == Popped::kChain) queue.Push(chain, Serve(chain));
  ///     return queue.status();
  ///
  /// Without a chain, the content of @p chain is of no use.
  Popped Pop(Chain& chain);

  /// Gives a chain back to the driver, once. @p written: the bytes that were written, from the
  /// first writable one on; a larger number than the chain has counts as all. Notify() must follow.
  /// False if the chain isn't in flight: it was pushed or put back before, or the back-end has
  /// taken it back (Device::ChainsTakenBack()). Then nothing has happened.
  bool Push(const Chain& chain, uint64_t written);

  /// Push() for chains that the driver must get together: it sees all of them or none. A network
  /// device needs this for a packet in several receive buffers, because a driver that polls would
  /// else find a part of the packet. @p written: the bytes that were written in all chains, which
  /// are filled one after the other. False if one of them isn't in flight; then nothing has
  /// happened.
  bool PushAll(absl::Span<const Chain> chains, uint64_t written);

  /// Puts a chain back as if it hadn't been popped: the next Pop() brings it again. A device does
  /// this with chains on which it has begun nothing: for example, it needs several for one packet,
  /// and there are too few. Chains go back in the reverse order of the pops, the last first. False
  /// if @p chain isn't the last that was popped, or isn't in flight, or if the virtqueue stops and
  /// the back-end before this one had the chain already; then nothing has happened.
  bool Unpop(const Chain& chain);

  /// Was the chain popped, and neither pushed nor put back, nor taken back by the back-end?
  bool IsInFlight(const Chain& chain) const;

  /// Does the chain, which is in flight, lie in memory that the front-end removes? See
  /// Device::MemoryRemoved().
  bool IsInRemovedMemory(const Chain& chain) const;

  /// Notifies the driver of the chains that were pushed, if it wants that.
  void Notify();

  /// Ask the driver to stop kicking, or to kick again; both are only hints. EnableKicks() returns
  /// true if there may be chains for which the driver hasn't kicked.
  void DisableKicks();
  bool EnableKicks();

  /// Chains that were popped, and neither pushed nor put back.
  size_t in_flight() const;
  /// OK, or DataLoss (EBADMSG) with the rule that the driver broke.
  const absl::Status& status() const;
  /// The value for GET_VRING_BASE. In a packed ring, only a chain that was pushed counts as done.
  uint32_t base() const;

  // For the back-end that runs the virtqueue:

  /// The number of chains that were popped, less those that were put back.
  uint64_t nr_popped() const;
  /// The serial number of the last pop, which never shrinks: a chain that was put back and popped
  /// again has a new one.
  uint64_t last_pop() const;

  /// Puts back all chains in flight that Unpop() accepts, the last first: those that were popped
  /// after every pushed chain. Returns their number. The device must have begun nothing on them.
  /// Look at the ring again after this call: the driver has kicked for these chains before.
  size_t TakeBack();

  /// Does a chain in flight lie in removed memory?
  bool HasRemovedMemory() const;

  /// The device has lost those of its chains that were popped since last_pop() was @p pop: they are
  /// no longer in flight. The driver doesn't get them back, but an inflight buffer keeps them for
  /// the next back-end.
  void GiveUpSince(uint64_t pop);

  /// The virtqueue will stop. From here on, Unpop() and TakeBack() leave out chains from the
  /// back-end before this one (TrackInflight()): no base brings these again, and without the
  /// inflight buffer, after a migration for example, nobody would. As long as the virtqueue goes
  /// on, the next Pop() brings them. Those that weren't popped before the stop are only in the
  /// inflight buffer.
  void BeginStop();

  /// Asks the driver to kick for each chain that comes from now on, also while the ring has some:
  /// EnableKicks() is for a ring whose chains were all popped. True if one has come meanwhile
  /// without a kick: then call it again.
  bool AwaitMore();

  /// Pop() calls @p attention when a translation is missing or the driver broke a rule, and Push()
  /// and Unpop() call it for the last chain in flight, and for each while removed memory is still
  /// mapped: a device may call them at any time.
  void set_attention(absl::AnyInvocable<void()> attention);

  /// The address, and the access to it, whose translation Pop() waits for.
  struct Miss {
    uint64_t address = 0;
    GuestAccess access = GuestAccess::kRead;
  };
  /// Set if the last result was Popped::kMiss.
  const std::optional<Miss>& miss() const;
  /// The translation may be there: the next Pop() finds out.
  void ForgetMiss();

  /// Call this after a change of the IOTLB or the memory table: the ring is now at @p ring, or,
  /// without a value, can't be reached. Pushes wait until it can be reached again. If it never is,
  /// the chains are lost, unless an inflight buffer has them. So a front-end may take a ring away
  /// only when its driver has no more use for it.
  ///
  /// InvalidArgument (EINVAL), as Create(); then the ring can't be reached.
  absl::Status Move(const std::optional<Memory>& ring);
  bool is_reachable() const;

  /// While @p pause is true, Pop() brings nothing and calls the attention; null: never.
  void set_pause(const std::atomic<bool>* pause);
  /// Counts pushes in @p counters, which must outlive the virtqueue; null: nowhere.
  struct Counters;
  void set_counters(Counters* counters);

  /// Notify() calls @p call if the driver wants a notification.
  void set_call(absl::AnyInvocable<void()> call);
  /// Marks the pages that are written in @p log, which must outlive its use here; null: in no log.
  /// @p log_ring: also marks the ring, as if its used part, or the descriptors if it is packed,
  /// were at the guest address @p ring_address.
  void set_log(const DirtyMarks* log, bool log_ring, uint64_t ring_address);
  /// Marks all that the device may have written in the ring, if the ring is marked.
  void MarkRing();

 private:
  class Impl;

  explicit Virtqueue(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_VIRTQUEUE_H_
