// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// Internal to the library.
struct VmState;

/// The arguments of Vm::AddMemslot(). Use designated initialisers.
struct MemslotOptions {
  /// A multiple of the page size.
  GuestAddress guest_address = {};
  /// The host memory of the slot, which has the same size: a mapping, a gmem::Window, a
  /// reservation. It consists of whole pages and isn't empty. The addresses must stay mapped, or at
  /// least reserved, as long as the slot exists. With a guest_memfd that can be mapped, pass a
  /// mapping of the same range of the file: KVM itself reads guest memory through these addresses.
  absl::Span<uint8_t> host = {};
  /// Borrowed for the call. A kPrivate guest_memfd backs the lent ranges of the slot, and @p host
  /// the others; a guest_memfd of another kind backs the whole slot.
  const GuestMemfd* guest_memfd = nullptr;
  /// The place in the guest_memfd where the slot begins; a multiple of the page size.
  ByteOffset guest_memfd_offset = {};
  /// The guest's writes exit to the VMM as MMIO. Not possible with a guest_memfd.
  bool read_only = false;
  /// Record the guest's writes for KVM_GET_DIRTY_LOG. Not possible with a guest_memfd.
  bool log_dirty_pages = false;
};

/// Owns one of a VM's memslots, and removes it when destroyed; the guest's accesses there are MMIO
/// exits afterwards. Keeps the VM's descriptor open.
///
/// Move-only. Destroy this before its host memory.
///
/// @par Thread safety
/// Thread-safe: id(), range(), is_valid().\n
/// Needs exclusive access: Lend(), Share(), Remove(), Reset(), moving, destroying. Threads may use
/// different memslots, even of one VM, at the same time.
class Memslot {
 public:
  /// Owns nothing.
  Memslot() = default;
  Memslot(Memslot&& other) noexcept = default;
  Memslot& operator=(Memslot&& other) noexcept;
  ~Memslot() { Reset(); }

  /// KVM's number for the slot, for KVM calls that need it.
  uint32_t id() const { return id_; }
  GuestRange range() const { return range_; }
  bool is_valid() const { return vm_ != nullptr; }

  /// Removes the memslot; has no effect if the object owns none. On an error, for example
  /// ResourceExhausted (ENOMEM) in a full memory cgroup, the memslot still exists: is_valid() stays
  /// true, and the guest can still access the host memory. Internal (EIO) if another process made
  /// the VM.
  absl::Status Remove();

  /// Removes the memslot, and gives up the object's ownership even if that fails; destroying does
  /// the same. After a failure, the guest can access the addresses of the host memory as long as
  /// the VM lives, even if the process uses them for something else. Before you unmap them, call
  /// Remove() and check its result.
  void Reset();

  /// Lends a range to the guest: makes it private (see Vm::SetPrivate()). With a kPrivate
  /// guest_memfd, the guest finds zeroes there and the call frees the host's half. With other
  /// kinds, guest and host use the same pages, and their content stays.
  ///
  /// FailedPrecondition if the slot has no guest_memfd. Unimplemented if the VM has no private
  /// memory. If the message begins with "lent, but", the range is lent and only freeing the host's
  /// half failed.
  absl::Status Lend(GuestRange range);

  /// Shares a range with the host again: the reverse of Lend(). If the message begins with "shared,
  /// but", the range is shared and only freeing the guest's half failed.
  absl::Status Share(GuestRange range);

 private:
  friend class Vm;

  absl::Status CheckConversion(GuestRange range) const;
  absl::Status DiscardHost(GuestRange range) const;

  std::shared_ptr<VmState> vm_;
  uint32_t id_ = 0;
  GuestRange range_;
  uint8_t* host_ = nullptr;
  // A reference of the slot's own: KVM's memslot holds none.
  std::optional<GuestMemfd> guest_memfd_;
  ByteOffset guest_memfd_offset_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMSLOT_H_
