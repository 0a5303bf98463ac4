// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VM_H_
#define GMEM_VM_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/window_descriptor.h"

namespace gmem {

/// The access that host and guest have to a page after the guest has used it.
enum class MapMode {
  /// The provider's choice: kLend.
  kDefault,
  /// Only the guest: the host loses access to a page when the guest uses it.
  kLend,
  /// Both the host and the guest.
  kShare,
};

/// The effect of a host access to a lent page. If a page comes back because its binding or its VM
/// ends, the kernel zeroes it under both kScrub and kDeny. Only a touch takes a page back: system
/// calls that pin or populate memory fail at a lent page; enum gmem_policy lists them. A read-only
/// mapping that can't become writable fails under kScrub, too.
enum class ReclaimPolicy {
  /// The page comes back with its contents.
  kAllow,
  /// The page comes back zeroed.
  kScrub,
  /// The access fails and the page stays lent.
  kDeny,
};

/// The kind of the windows of a VM. It is chosen when the VM is created.
enum class WindowKind {
  /// A choice, not a kind: see VmOptions::windows.
  kBest,
  /// The provider has no windows.
  kNone,
  /// A window consists of a mapping for each binding that it shows, and of mappings for the holes
  /// between them. The process needs one of its mappings (65,530 by default) for each, and each
  /// change takes several calls; Window makes them. Window::Unmap() leaves a hole of its own, which
  /// doesn't join holes beside it; Window::Refresh() makes one mapping of each hole. The pages are
  /// ordinary ones, so a device or a system call can pin the guest's memory through the window:
  /// VFIO, O_DIRECT, io_uring. gdb and nested guests can use it, too. A page that is pinned can't be
  /// lent.
  kPaged,
  /// A window is one mapping, which follows the bindings by itself: a change is one call, and a VM
  /// can have a million bindings (DeviceInfo::max_bindings). Nothing can pin memory through the
  /// window, so all the uses that kPaged names fail (EFAULT; gdb gets EIO; up to Linux 6.12, nested
  /// guests work). System calls that copy, read() and write() for example, work. If a page breaks,
  /// KVM sends no signal: Vm::Faults() reports FaultReason::kHwPoison.
  kLive,
};

/// The effect of a guest's access to a page that isn't bound.
enum class AbsentPages {
  /// The access is refused.
  kFail,
  /// The access waits until the page is bound, or fails: Vm::SetAbsent(). Only a fatal signal ends
  /// the wait of a vCPU: a VMM can't pause one that waits.
  kWait,
  /// As kWait, but any signal ends the wait of a vCPU: KVM_RUN fails with EFAULT, and Vm::Faults()
  /// reports FaultReason::kInterrupted. Choose it if the VMM's loop around KVM_RUN knows that: see
  /// Window.
  kWaitOrSignal,
};

/// The arguments of Vm::Map(). Use designated initialisers:
///
///     vm.Map(memory, {.guest_address = GuestAddress(0), .size = memory.size()});
///
/// Address, offset and size are multiples of GuestMemory::page_size().
struct MapOptions {
  GuestAddress guest_address = {};
  /// First byte in the guest memory.
  ByteOffset offset = {};
  /// Not 0.
  ByteSize size = {};
  MapMode mode = MapMode::kLend;
  /// The accesses that the guest may make; set at least one. ProviderInfo::CanEnforce() says which
  /// combinations work. KVM (the provider "window") can't keep a guest from reading or executing.
  bool read = true;
  bool write = true;
  bool execute = true;
  /// A policy for this binding in place of the VM's, whatever Vm::SetPolicy() sets later. Needs
  /// DeviceInfo::has_map_options.
  std::optional<ReclaimPolicy> policy = std::nullopt;
  /// Let the binding become one with the neighbours that it continues, in guest and memory, with
  /// the same mode, permissions and policy. So memory that is bound page by page, in any order,
  /// ends as one binding. Needs DeviceInfo::has_map_options.
  bool join = false;
};

/// The accesses that a guest may make.
struct GuestAccess {
  bool read = true;
  bool write = true;
  bool execute = true;
};

/// The arguments of Vm::Change(). Set at least one. A binding keeps its own value of the other one.
struct ChangeOptions {
  /// kLend or kShare; kDefault is the same as nothing.
  MapMode mode = MapMode::kDefault;
  /// As MapOptions::read, write and execute: set at least one of the three.
  std::optional<GuestAccess> access = std::nullopt;
};

/// A guest range that is bound to guest memory.
struct Binding {
  GuestRange range;
  /// First byte in the guest memory.
  ByteOffset offset;
  /// GuestMemory::id().
  uint64_t memory_id = 0;
  /// kLend or kShare.
  MapMode mode = MapMode::kLend;
  bool read = false;
  bool write = false;
  bool execute = false;
  /// The binding's own policy. Empty if the VM's counts.
  std::optional<ReclaimPolicy> policy = std::nullopt;
};

/// Why a guest access was refused, and the remedy that a VMM has. The numbers are the kernel's; a
/// newer kernel may have more.
enum class FaultReason : uint32_t {
  /// No memory is bound there: bind some and run the vCPU again, or stop the guest.
  kUnbound = 1,
  /// Memory is bound, but a window of kind kPaged isn't up to date: call Window::Refresh().
  kStale = 2,
  /// The binding doesn't allow the access.
  kPermission = 3,
  /// Someone keeps the page pinned (O_DIRECT, io_uring): run the vCPU again later.
  kPinned = 4,
  /// The host has no memory left, or the memory cgroup is at its limit.
  kNoMemory = 5,
  /// The provider failed; the kernel log may say more.
  kProvider = 6,
  /// The page is broken: GuestMemory::PunchHole() replaces it.
  kHwPoison = 7,
  /// The provider of an earlier VM kept the page: GuestMemory::PunchHole() replaces it.
  kLeaked = 8,
  /// A signal ended the wait for a page (AbsentPages::kWaitOrSignal): treat this KVM_RUN as one
  /// that failed with EINTR.
  kInterrupted = 9,
};

/// One refused guest access, or several equal ones in a row.
struct Fault {
  /// The number of the last access of the row. Each VM counts its refused accesses from 1.
  uint64_t sequence = 0;
  GuestAddress page;
  FaultReason reason = FaultReason::kUnbound;
  bool read = false;
  bool write = false;
  bool execute = false;
  /// How many accesses the row has.
  uint64_t count = 0;
  /// The thread that made the accesses, a vCPU's for example (gettid(2)), as the PID namespace of
  /// this process knows it. 0 if this process can't see the thread, if a thread of the kernel made
  /// them, or if the module is of an ABI before 4. The row stays when the thread has ended, and then
  /// another thread may have the number.
  pid_t thread = 0;
};

struct FaultReport {
  /// In ascending order of sequence.
  std::vector<Fault> faults;
  /// The argument for the next call of Vm::Faults().
  uint64_t last_sequence = 0;
  /// How many accesses the kernel dropped before this process read them.
  uint64_t lost = 0;

  /// Does a KVM_RUN that failed with EFAULT, after which this is the report, count as one that
  /// failed with EINTR? True if a wait was interrupted. Other rows may be of other threads; an
  /// access of this one that was refused, too, is refused again at the next KVM_RUN.
  bool IsInterruption() const;
};

/// A page for which guest accesses wait: see AbsentPages::kWait.
struct PageRequest {
  GuestAddress page;
  /// The kinds of the accesses.
  bool read = false;
  bool write = false;
  bool execute = false;
  /// How many threads wait for the page.
  uint32_t nr_threads = 0;
  /// The thread that has waited longest: its number (gettid(2)) in the PID namespace of this
  /// process. 0 for a thread of the kernel, or one outside of that namespace.
  pid_t thread = 0;
};

/// The address space of a guest, to which a VMM binds guest memory. Device::CreateVm() makes it. It
/// lives as long as a descriptor, a Window or a WindowDescriptor refers to it; at its end the
/// kernel takes back all its pages.
///
/// Ranges are not empty and are multiples of the host's page size. Where a range starts or ends
/// inside a binding of memory with huge pages, that place is a multiple of the huge page size.
/// Otherwise a call fails with InvalidArgument (EINVAL). A range beyond the address space is
/// InvalidArgument, too; a range that wraps is OutOfRange (EOVERFLOW). A call that fails has
/// changed nothing, except Reclaim() and Populate(), which report how far they got.
///
/// Map(), Unmap(), UnmapExact(), Change(), Reclaim(), Populate() and ForEachBinding() allocate no
/// memory in this process unless they fail.
///
/// @par Thread safety
/// Thread-safe: Adopt(), fd(), Duplicate(), Id(), GuestAddressBits(), Windows(), Map(), Fill(),
/// Unmap(), UnmapExact(), Change(), ForEachBinding(), Query(), Reclaim(), Populate(), Faults(),
/// SetPolicy(), OpenWindow(), TakeRequests(), Requests(), SetAbsent(). The kernel orders changes to
/// one VM.\n
/// Needs exclusive access: Release(), moving, destroying.
class Vm {
 public:
  /// Takes over a descriptor, for example one that a restarted VMM received. InvalidArgument if the
  /// descriptor isn't of a VM; Adopt() closes it then.
  static absl::StatusOr<Vm> Adopt(UniqueFd fd);

  int fd() const { return fd_.get(); }

  /// Returns another owner of the same VM.
  absl::StatusOr<Vm> Duplicate() const;

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

  /// The number by which the host's operator knows this VM: VmState::id, Event::vm_id. Needs /proc.
  absl::StatusOr<uint32_t> Id() const;

  /// The width of the guest address space in bits. The call asks the kernel; 0 if that fails.
  int GuestAddressBits() const;

  /// The kind of the VM's windows; never kBest. The call asks the kernel.
  WindowKind Windows() const;

  /// Binds a range of guest memory. If this process has a Window of the VM, use Window::Map()
  /// instead. Fails with
  /// - AlreadyExists (EEXIST) if the guest range overlaps a binding, or if the memory is bound
  ///   elsewhere (only one binding, in all VMs, may lend a page);
  /// - Unimplemented (EOPNOTSUPP) if the provider can't enforce the permissions, or if the memory
  ///   has huge pages and the VM's live windows can't show them (see VmOptions::huge_pages);
  /// - ResourceExhausted (ENOSPC) if the VM has DeviceInfo::max_bindings already, or all VMs of the
  ///   user have DeviceInfo::max_user_bindings;
  /// - PermissionDenied (EACCES) if the call lends, or the guest may write, and the descriptor of
  ///   the memory is read-only;
  /// - PermissionDenied (EPERM) if the host lends only secret memory and this memory isn't secret:
  ///   see Device::CreateSecretMemory();
  /// - Unimplemented (ENOTTY) if the options have a policy or join, and the module is of an ABI
  ///   before 4.
  absl::Status Map(const GuestMemory& memory, const MapOptions& options) const {
    return Map(memory.fd(), options);
  }
  /// Binds a range of guest memory by a descriptor that belongs to another owner.
  absl::Status Map(int guest_memory_fd, const MapOptions& options) const;

  /// Copies @p source, of options.size bytes, into guest memory, and binds it: the same as a copy
  /// to a mapping of @p memory and Map(), but faster for single pages. Overwrites no page that is
  /// bound anywhere: AlreadyExists (EEXIST). InvalidArgument (EFAULT) if the source can't be read;
  /// Unimplemented (EOPNOTSUPP) for secret memory; Unimplemented (ENOTTY) if the module lacks the
  /// call: load a gmem.ko of ABI 4 or later. Other errors: those of Map(). After a failure, unbound
  /// pages of @p memory may have new contents.
  absl::Status Fill(const GuestMemory& memory, const MapOptions& options, const void* source) const;

  /// Unbinds a guest range. It may span bindings and holes; the kernel trims or splits a binding
  /// that lies partly in it. The kernel takes back the guest's pages first. Returns how many pages
  /// were bound before; 0 isn't an error. Internal (EIO) if the kernel can't take back a page. If
  /// this process has a Window of the VM, use Window::Unmap() instead.
  absl::StatusOr<uint64_t> Unmap(GuestRange range) const;

  /// Unbinds a range that lies within one binding with exactly these properties, else NotFound
  /// (ENOENT). This is the call of the Gunyah series.
  absl::Status UnmapExact(const GuestMemory& memory, const MapOptions& options) const {
    return UnmapExact(memory.fd(), options);
  }
  absl::Status UnmapExact(int guest_memory_fd, const MapOptions& options) const;

  /// Changes a range in place: from lent to shared or back, its permissions, or both, as a whole or
  /// not at all. The guest runs on: the range is never unbound, and a guest or a host that touches
  /// it meanwhile waits for the end of the call. From lent to shared, the contents stay, whatever
  /// the policy is. From shared to lent, the host loses the pages that the guest has used; others
  /// are lent when the guest first uses them. The range may lie in several bindings, and in parts
  /// of them. Fails with
  /// - NotFound (ENOENT) if part of the range is unbound;
  /// - AlreadyExists (EEXIST) if the range shall be lent, and another binding has one of its pages;
  /// - Unavailable (EBUSY) if a page that is lent, or about to be, is pinned;
  /// - PermissionDenied (EACCES) if it shall be lent or writable, and was bound by a read-only
  ///   descriptor;
  /// - Unimplemented (EOPNOTSUPP) if the provider can't enforce the permissions; if they take write
  ///   access away while a writable window of kind kPaged shows the range; and for a guest of
  ///   Gunyah that has its memory by parcels;
  /// - ResourceExhausted (ENOSPC) if the change cuts a binding, and the VM has
  ///   DeviceInfo::max_bindings already, or all VMs of the user have
  ///   DeviceInfo::max_user_bindings;
  /// - Unimplemented (ENOTTY) if the module is of an ABI before 4: see DeviceInfo::has_change.
  ///
  /// A Window shows the new state by itself, with one exception: of kind kPaged, it has write
  /// access only where the binding gave that when Window::Map() or Window::Refresh() made the
  /// mapping.
  absl::Status Change(GuestRange range, const ChangeOptions& options) const;

  /// Calls @p visit with each whole binding that touches @p range, in ascending order, until @p
  /// visit returns false. @p visit may call other methods. A binding that doesn't change meanwhile
  /// is visited once. A binding that changes meanwhile may be visited or not, and may overlap a
  /// binding that was visited before.
  absl::Status ForEachBinding(GuestRange range,
                              absl::FunctionRef<bool(const Binding&)> visit) const;

  /// Returns the bindings that touch a range, or all bindings.
  absl::StatusOr<std::vector<Binding>> Query(GuestRange range) const;
  absl::StatusOr<std::vector<Binding>> Query() const;

  /// Takes back the lent pages of a range now. The bindings stay: the guest's next access lends a
  /// page again. PermissionDenied (EACCES) if a binding of the range has ReclaimPolicy::kDeny, by
  /// itself or from the VM. Sets @p nr_pages, if given, to the number of pages that came back, on
  /// failure, too.
  absl::Status Reclaim(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// Provides a range before the guest uses it: allocates each page, and lends or shares it.
  /// NotFound (ENOENT) if part of the range is unbound; Unavailable (EBUSY) if a page is pinned.
  /// Sets @p nr_pages, if given, to the number of pages, counted from the start of the range, that
  /// the guest has now, on failure, too.
  absl::Status Populate(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// Returns the refused accesses whose number is above @p since. The kernel keeps the last 64
  /// rows. Accesses of different threads are different rows. To wait for a new row, use poll(2) or
  /// epoll(7) with fd(): POLLPRI, until a call has returned the newest row, in whichever process.
  /// Modules before ABI 4 have no POLLPRI: see DeviceInfo::has_page_runs.
  absl::StatusOr<FaultReport> Faults(uint64_t since = 0) const;

  /// Sets the policy for pages that are lent now or later. A binding with MapOptions::policy keeps
  /// its own.
  absl::Status SetPolicy(ReclaimPolicy policy) const;

  /// Returns the pages for which accesses have begun to wait, the oldest first, at most @p max. Each
  /// request is returned once, to one caller. Doesn't block: poll(2) reports POLLIN on fd() while
  /// there is a request to take. To serve a request, write the contents of the page to the guest
  /// memory first, and then Map() it; the access goes on by itself. AlreadyExists (EEXIST) then says
  /// that the page has been bound meanwhile.
  ///
  ///     while (poll(&vm_fd, 1, -1) == 1) {
  ///       for (const PageRequest& request : *vm.TakeRequests()) {
  ///         Fetch(request.page, memory);
  ///         vm.Map(memory, {.guest_address = request.page, ...});
  ///       }
  ///     }
  ///
  /// While a vCPU waits, KVM calls on its VM hang that change memslots (the dirty log, too) or
  /// ioeventfds. While a vhost worker waits, calls hang that start or stop its queue. So the thread
  /// that serves requests makes none of these calls, takes no lock that is held during one, and
  /// touches no unbound page. See "DOC: Waiting" in linux/gmem.h.
  ///
  /// Unimplemented (EOPNOTSUPP) if the VM's accesses don't wait (VmOptions::absent), or (ENOTTY) if
  /// the module has no waiting: load a gmem.ko of ABI 4 or later.
  absl::StatusOr<std::vector<PageRequest>> TakeRequests(size_t max = 64) const;

  /// Returns all pages for which accesses wait now, in ascending order; takes none. For a process
  /// that takes over from another one. Errors: as TakeRequests().
  absl::StatusOr<std::vector<PageRequest>> Requests() const;

  /// Sets the effect of accesses to the unbound pages of a range. AbsentPages::kFail ends the waits
  /// there, and lasts until the range is bound, or set to kWait again. Bound pages have it, too, from
  /// the time when they are unbound. InvalidArgument (EINVAL) for kWaitOrSignal: the VM has
  /// VmOptions::absent. ResourceExhausted (ENOSPC) if too many ranges (65,536) fail; Map() and
  /// Fill() may fail in this way, too. Other errors: as TakeRequests().
  absl::Status SetAbsent(GuestRange range, AbsentPages absent) const;

  /// Makes a descriptor of a guest range for another process, which needs none of the VM's calls:
  /// see WindowDescriptor. Unimplemented (EOPNOTSUPP) if the VM's windows aren't live;
  /// Unimplemented (ENOTTY) if the module has no window descriptors: load a gmem.ko of ABI 2 or
  /// later.
  absl::StatusOr<WindowDescriptor> OpenWindow(GuestRange range,
                                              const WindowDescriptorOptions& options) const;
  absl::StatusOr<WindowDescriptor> OpenWindow(GuestRange range) const {
    return OpenWindow(range, {});
  }

 private:
  friend class Device;
  explicit Vm(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem

#endif  // GMEM_VM_H_
