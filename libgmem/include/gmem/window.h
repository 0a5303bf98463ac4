// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_WINDOW_H_
#define GMEM_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem {

/// A guest address range as memory of this process. A VMM registers the window with KVM as one
/// memslot, once, and never changes the memslot. A touch from any process counts as the guest's
/// access: the touch lends the page if the page's binding says so.
///
/// Map(), Unmap() and UnmapExact() do what these methods of Vm do, and show the result in the
/// window; KVM follows by itself. They work alike for both kinds of windows (see WindowKind). Where
/// nothing is bound, a touch is refused with SIGBUS, and KVM_RUN fails with EFAULT; Vm::Faults()
/// reports the address. (See "DOC: Windows" in linux/gmem.h.)
///
/// @par The loop around KVM_RUN
/// A change of a window of kind kPaged takes several steps. Between them, the guest's access to the
/// range of the change is refused, and KVM_RUN fails with EFAULT, although the range was bound
/// before or is bound afterwards. Vm::Faults() has no row for such an access, or one of kStale. So
/// a VMM that changes bindings while the guest runs looks at the number of changes first, and runs
/// the vCPU again if there is no new row of another reason, and a change was under way:
///
///     uint64_t seen = 0;
///     for (;;) {
///       const uint64_t changes = window.NrChanges();
///       if (ioctl(vcpu, KVM_RUN, 0) == 0) {
///         HandleExit();
///       } else if (errno == EFAULT) {
///         const FaultReport report = *window.vm().Faults(seen);
///         seen = report.last_sequence;
///         if (report.IsInterruption()) continue;  // as after EINTR: look whether to pause
///         const bool is_refused =
///             std::any_of(report.faults.begin(), report.faults.end(),
///                         [](const Fault& fault) { return fault.reason != FaultReason::kStale; });
///         if (!is_refused && window.HasChangedSince(changes)) continue;
///         HandleRefusal(report);  // it says where, and why
///       } else if (errno != EINTR) {
///         Die(errno);
///       }
///     }
///
/// If no change was under way, HandleRefusal() calls Refresh() for a page that is kStale. A row may
/// be that of another vCPU, and another thread may have bound the page since: then run the vCPU
/// again. Some refusals never have a row: a guest's write to a read-only binding (see "DOC:
/// Windows"). As long as changes come all the time, the loop goes on trying these. With kLive,
/// HasChangedSince() is always false, and a report without rows says that nothing was refused: run
/// the vCPU again. The loop is right for both kinds.
///
/// Another thread of the VMM that touches the range of a change at that time gets SIGSEGV or
/// SIGBUS.
///
/// A window keeps its VM alive. The addresses stay the same when the object moves. A child process
/// has the object, but not the mapping: after a fork() without exec(), the child must neither use
/// nor destroy the object, because the addresses may hold other memory of the child.
///
/// @par Thread safety
/// Thread-safe: Create(), vm(), range(), access(), kind(), data(), size(), HostMemory(), ToGuest(),
/// Map(), Unmap(), UnmapExact(), Refresh(), NrChanges(), HasChangedSince(). Changes of ranges that
/// overlap take turns; others don't wait for each other.\n
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

  Window(Window&&) noexcept;
  Window& operator=(Window&&) noexcept;
  ~Window();

  /// The VM, as an owner of its own.
  const Vm& vm() const { return vm_; }
  GuestRange range() const { return range_; }
  MemoryAccess access() const { return access_; }
  /// kPaged or kLive.
  WindowKind kind() const { return kind_; }

  /// The first byte of the window, for KVM's userspace_addr.
  uint8_t* data() const { return memory_.data() + offset_; }
  size_t size() const { return range_.size.value(); }

  /// The addresses of a guest range; empty if the range doesn't lie in the window.
  absl::Span<uint8_t> HostMemory(GuestRange range) const;

  /// The guest address of an address in the window; nothing if the address lies elsewhere.
  std::optional<GuestAddress> ToGuest(const void* address) const;

  /// Binds a range of guest memory, which lies in the window, and shows it. Errors: those of
  /// Vm::Map(); InvalidArgument (EINVAL) if the range doesn't lie in the window; ResourceExhausted
  /// (ENOMEM) at the process's limit of mappings (kPaged). Nothing is bound after an error.
  absl::Status Map(const GuestMemory& memory, const MapOptions& options) const {
    return Map(memory.fd(), options);
  }
  /// Binds a range of guest memory by a descriptor that belongs to another owner.
  absl::Status Map(int guest_memory_fd, const MapOptions& options) const;

  /// Unbinds a range, which lies in the window. With kPaged, the guest can't reach the range from
  /// the beginning of the call on, so its touches don't disturb the change. If the call fails, the
  /// window shows the bindings again. Result and errors: those of Vm::Unmap(); InvalidArgument
  /// (EINVAL) if the range doesn't lie in the window; ResourceExhausted (ENOMEM) at the process's
  /// limit of mappings (kPaged). At this limit, the range may stay hidden after the call: touches
  /// are then refused, but Vm::Faults() doesn't report them, until a Map() or Refresh() of the
  /// range succeeds.
  ///
  /// With kPaged, the number of mappings doesn't fall: the hole stays a mapping of its own, even
  /// beside other holes. One Refresh() of a range that contains all of them joins them.
  absl::StatusOr<uint64_t> Unmap(GuestRange range) const;

  /// Unbinds a range that lies in the window, and within one binding with exactly these properties:
  /// Vm::UnmapExact(). Otherwise like Unmap().
  absl::Status UnmapExact(const GuestMemory& memory, const MapOptions& options) const {
    return UnmapExact(memory.fd(), options);
  }
  absl::Status UnmapExact(int guest_memory_fd, const MapOptions& options) const;

  /// Shows the present bindings of @p range, which lies in the window: call it when someone else,
  /// for example another process, has changed them. Does nothing with kLive. Allocates no memory in
  /// this process unless it fails. On failure, for example ResourceExhausted (ENOMEM) at the limit
  /// of mappings, one part of the range is up to date and the rest shows the older state. Memory
  /// that is still bound as the window shows it stays usable; a touch of anything else is refused.
  /// Call Refresh() again. Unavailable (EAGAIN) if others change the range all the time.
  absl::Status Refresh(GuestRange range) const;
  absl::Status Refresh() const { return Refresh(range_); }

  /// How many changes of this object's window are over. For HasChangedSince().
  uint64_t NrChanges() const;

  /// Has Map(), Unmap(), UnmapExact() or Refresh() changed the window since NrChanges() returned
  /// @p nr_changes? If such calls are under way, waits until one of them ends, and returns true.
  bool HasChangedSince(uint64_t nr_changes) const;

 private:
  // The changes of a window of kind kPaged.
  class Changes;
  class Change;

  Window(Vm vm, Mapping memory, size_t offset, GuestRange range, MemoryAccess access,
         WindowKind kind);

  absl::Status CheckInside(GuestRange range) const;
  absl::Status Remove(GuestRange range, absl::FunctionRef<absl::Status()> unbind) const;
  absl::Status Hide(GuestRange range) const;
  absl::Status ShowBindings(GuestRange range) const;
  absl::Status ShowBindingsOnce(GuestRange* rest) const;
  absl::Status Show(GuestRange range, MemoryAccess access) const;

  Vm vm_;
  Mapping memory_;
  // The offset of the window's first page in memory_.
  size_t offset_;
  GuestRange range_;
  MemoryAccess access_;
  WindowKind kind_;
  std::unique_ptr<Changes> changes_;
};

}  // namespace gmem

#endif  // GMEM_WINDOW_H_
