// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_KVM_MEMSLOT_H_
#define GMEM_KVM_MEMSLOT_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/types.h"

namespace gmem::kvm {

/// Not for users.
struct VmState;

/// What Vm::AddMemslot() is to add. Use designated initialisers.
struct MemslotOptions {
  /// A multiple of the page size.
  GuestAddress guest_address = {};
  /// As much host memory as the slot has: a mapping, a gmem::Window, a reservation.
  /// Whole pages, not empty; must stay mapped, or at least reserved, as long as the slot
  /// is there. With a guest_memfd that can be mapped, give a mapping of the same range of
  /// it: KVM itself reads guest memory through these addresses.
  absl::Span<uint8_t> host = {};
  /// Borrowed for the call. Where it is kPrivate, the guest uses it in lent ranges and
  /// @p host elsewhere; else for all of the slot.
  const GuestMemfd* guest_memfd = nullptr;
  /// Where in the guest_memfd the slot begins; a multiple of the page size.
  ByteOffset guest_memfd_offset = {};
  /// The guest's writes exit to the VMM as MMIO. Not with a guest_memfd.
  bool read_only = false;
  /// Record what the guest writes, for KVM_GET_DIRTY_LOG. Not with a guest_memfd.
  bool log_dirty_pages = false;
};

/// The owner of one of a VM's memslots: removes it at the end of its life, after which
/// the guest's accesses there are MMIO exits. Keeps the VM's descriptor open.
///
/// Move-only. Before its host memory goes, it must: destroy it first.
///
/// @par Thread safety
/// Thread-safe: id(), range(), is_valid().\n
/// Needs exclusive access: Lend(), Share(), Remove(), Reset(), moving, destroying. Several
/// memslots, of one VM too, may be used at the same time.
class Memslot {
 public:
  /// Owns nothing.
  Memslot() = default;
  Memslot(Memslot&& other) noexcept = default;
  Memslot& operator=(Memslot&& other) noexcept;
  ~Memslot() { Reset(); }

  /// KVM's number of it, for calls that want one.
  uint32_t id() const { return id_; }
  GuestRange range() const { return range_; }
  bool is_valid() const { return vm_ != nullptr; }

  /// Removes the memslot. Of no effect if there is none. On an error, ResourceExhausted
  /// (ENOMEM) in a full memory cgroup say, it is still there, the guest can still reach the
  /// host memory, and is_valid(). Internal (EIO): another process made the VM.
  absl::Status Remove();

  /// The same, and lets go of it in any case, as destroying does. Where removing fails, the
  /// guest can reach the host memory's addresses as long as the VM lives, whatever they are
  /// used for: Remove() before they are unmapped, and look.
  void Reset();

  /// Lends a range to the guest: makes it private (see Vm::SetPrivate()). With a kPrivate
  /// guest_memfd the guest finds zeroes there, and the host's half is freed; other kinds
  /// have one memory for both, whose content stays.
  ///
  /// FailedPrecondition: the slot has no guest_memfd. Unimplemented: the VM has no
  /// private memory. An error that begins with "lent, but" concerns the freeing alone.
  absl::Status Lend(GuestRange range);

  /// Shares a range with the host again, the other way round. "shared, but": the guest's
  /// half could not be freed.
  absl::Status Share(GuestRange range);

 private:
  friend class Vm;

  absl::Status CheckConversion(GuestRange range) const;
  absl::Status DiscardHost(GuestRange range) const;

  std::shared_ptr<VmState> vm_;
  uint32_t id_ = 0;
  GuestRange range_;
  uint8_t* host_ = nullptr;
  // The slot's own reference: KVM's memslot holds none.
  std::optional<GuestMemfd> guest_memfd_;
  ByteOffset guest_memfd_offset_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMSLOT_H_
