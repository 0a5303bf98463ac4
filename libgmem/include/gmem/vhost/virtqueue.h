// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_VIRTQUEUE_H_
#define GMEM_VHOST_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

namespace virtqueue_internal {
class Ring;
}  // namespace virtqueue_internal

/// The device's side of a virtqueue, split or packed (virtio 1.3, 2.7 and 2.8). The
/// driver is hostile: a ring that breaks the rules is refused as a whole, and stays
/// refused until it is started again; what it says is read once, and bounded.
///
/// Completion may be in any order. Nothing is allocated once the chains have had their
/// largest content.
///
/// Thread-compatible.
class Virtqueue {
 public:
  struct Options {
    uint16_t index = 0;
    /// Entries: 1 to kMaxQueueSize; a power of two unless packed.
    uint32_t size = 0;
    bool is_packed = false;
    bool has_indirect = false;
    bool has_event_idx = false;
  };

  /// The parts of a ring in this process. A packed ring's are its descriptors, the
  /// device's and the driver's event suppression, in this order.
  struct Memory {
    GuestSpan descriptors;
    GuestSpan used;
    GuestSpan available;
  };
  /// How many bytes each part has.
  struct Sizes {
    uint64_t descriptors = 0;
    uint64_t used = 0;
    uint64_t available = 0;
  };
  static Sizes SizesOf(const Options& options);

  /// @p memory is where buffers are, and must outlive the virtqueue; @p base is what
  /// SET_VRING_BASE said. InvalidArgument (EINVAL) if the size is none, or a part of
  /// the ring too small or not aligned.
  static absl::StatusOr<Virtqueue> Create(const GuestMemoryMap& memory, const Options& options,
                                          const Memory& ring, uint32_t base);

  Virtqueue(Virtqueue&& other) noexcept;
  Virtqueue& operator=(Virtqueue&& other) noexcept;
  ~Virtqueue();

  /// Tracks what is in flight in @p region, a queue's part of an inflight buffer, and
  /// takes up what a back-end before this one left there: Pop() brings that first, in
  /// its old order. DataLoss (EBADMSG) if what is there can't be true (CVE-2021-3839,
  /// CVE-2026-86565). Before the first Pop().
  absl::Status TrackInflight(GuestSpan region);

  uint16_t index() const { return options_.index; }
  uint32_t size() const { return options_.size; }

  /// The next chain that the driver made available. False if there is none now, or its
  /// addresses wait for the IOTLB. DataLoss (EBADMSG) if the driver broke the rules.
  absl::StatusOr<bool> Pop(Chain& chain);

  /// Gives a chain back, with @p written bytes of its writable ones written, from the
  /// first on; more than it has count as all. Each chain once. Notify() tells the driver.
  void Push(const Chain& chain, uint64_t written);

  /// Tells the driver of what was pushed, if it wants to know.
  void Notify();

  /// Asks the driver not to tell of what it makes available, and to tell again. That is
  /// only a hint. Enable says whether there is something that it may not have told of.
  void DisableKicks();
  bool EnableKicks();

  /// Chains that were popped and not yet pushed.
  size_t in_flight() const { return in_flight_; }
  /// Why the ring is refused, or OK.
  const absl::Status& status() const { return status_; }
  /// What GET_VRING_BASE says. Only what was pushed counts as done in a packed ring.
  uint32_t base() const;

  // For who drives it:

  /// What Pop() waits for, since it last returned: an address and an access.
  struct Miss {
    uint64_t address = 0;
    GuestAccess access = GuestAccess::kRead;
  };
  const std::optional<Miss>& miss() const { return miss_; }

  /// The ring has moved, as the IOTLB or the memory table say. Nothing: it can't be
  /// reached now; what is pushed meanwhile, waits. If it never can again, who has the
  /// inflight buffer does it again, and without one the driver waits for it for ever: the
  /// front-end is only to take a ring away when its driver has no more use for it.
  absl::Status Move(const std::optional<Memory>& ring);
  bool is_reachable() const { return is_reachable_; }

  /// What Notify() does.
  void set_call(absl::AnyInvocable<void()> call) { call_ = std::move(call); }
  /// Marks what is written. Null: nowhere. @p log_ring: the ring, too, as if its used
  /// part, or the descriptors if it is packed, were at @p ring_address.
  void set_log(const DirtyMarks* log, bool log_ring, uint64_t ring_address) {
    log_ = log;
    log_ring_ = log_ring;
    log_ring_address_ = ring_address;
  }

 private:
  struct Completion {
    Chain::Token token;
    uint32_t written = 0;
  };

  Virtqueue(const GuestMemoryMap& memory, const Options& options);
  void Complete(const Completion& completion);

  const GuestMemoryMap* memory_;
  Options options_;
  std::unique_ptr<virtqueue_internal::Ring> ring_;
  bool is_reachable_ = true;
  size_t in_flight_ = 0;
  absl::Status status_;
  std::optional<Miss> miss_;
  // What was pushed while the ring couldn't be reached; room for all.
  std::vector<Completion> waiting_;
  absl::AnyInvocable<void()> call_;
  const DirtyMarks* log_ = nullptr;
  bool log_ring_ = false;
  uint64_t log_ring_address_ = 0;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_VIRTQUEUE_H_
