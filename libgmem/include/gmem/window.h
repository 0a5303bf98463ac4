// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_WINDOW_H_
#define GMEM_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem {

/// A guest address range as memory of this process. A VMM registers the window with KVM as one
/// memslot, once, and never changes the memslot. A touch from any process counts as the guest's
/// access: the touch lends the page if the page's binding says so.
///
/// Where nothing is bound, a touch is refused with SIGBUS, and KVM_RUN fails with EFAULT;
/// Vm::Faults() reports the address. After Vm::Map() or Vm::Unmap(), Refresh() brings the window up
/// to date; KVM follows by itself. (See "DOC: Windows" in linux/gmem.h.)
///
/// A window keeps its VM alive. The addresses stay the same when the object moves. A child process
/// has the object, but not the mapping: after a fork() without exec(), the child must neither use
/// nor destroy the object, because the addresses may hold other memory of the child.
///
/// @par Thread safety
/// Thread-safe: Create(), vm(), range(), access(), data(), size(), HostMemory(), ToGuest(),
/// Refresh(). But let the same thread, or one lock, do both Map()/Unmap() and Refresh() of a range:
/// a Refresh() during a change may leave the older state behind.\n
/// Needs exclusive access: moving, destroying.
class Window {
 public:
  struct Options {
    /// kReadOnly: neither this process nor the guest can write through this window.
    MemoryAccess access = MemoryAccess::kReadWrite;
  };

  /// Reserves addresses for @p range and shows the bound memory there. The addresses equal the
  /// guest's modulo 2 MiB, so that huge pages work. Unimplemented (ENODEV) if the VM's provider has
  /// no windows.
  static absl::StatusOr<Window> Create(const Vm& vm, GuestRange range, const Options& options);
  static absl::StatusOr<Window> Create(const Vm& vm, GuestRange range) {
    return Create(vm, range, {});
  }

  /// The VM, as an owner of its own.
  const Vm& vm() const { return vm_; }
  GuestRange range() const { return range_; }
  MemoryAccess access() const { return access_; }

  /// The first byte of the window, for KVM's userspace_addr.
  uint8_t* data() const { return memory_.data() + offset_; }
  size_t size() const { return range_.size.value(); }

  /// The addresses of a guest range; empty if the range doesn't lie in the window.
  absl::Span<uint8_t> HostMemory(GuestRange range) const;

  /// The guest address of an address in the window; nothing if the address lies elsewhere.
  std::optional<GuestAddress> ToGuest(const void* address) const;

  /// Shows the present bindings of @p range, which lies in the window. Allocates no memory in this
  /// process unless it fails. On failure, for example ResourceExhausted (ENOMEM) at the limit of
  /// mappings, one part of the range is up to date and the rest shows the older state. Memory that
  /// is still bound as the window shows it stays usable; a touch of anything else is refused. Call
  /// Refresh() again.
  absl::Status Refresh(GuestRange range) const;
  absl::Status Refresh() const { return Refresh(range_); }

 private:
  Window(Vm vm, Mapping memory, size_t offset, GuestRange range, MemoryAccess access)
      : vm_(std::move(vm)),
        memory_(std::move(memory)),
        offset_(offset),
        range_(range),
        access_(access) {}

  absl::Status Show(GuestRange range, MemoryAccess access) const;

  Vm vm_;
  Mapping memory_;
  // The offset of the window's first page in memory_.
  size_t offset_;
  GuestRange range_;
  MemoryAccess access_;
};

}  // namespace gmem

#endif  // GMEM_WINDOW_H_
