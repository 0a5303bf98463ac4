// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VM_H_
#define GMEM_VM_H_

#include <cstdint>
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
/// ends, the kernel zeroes it under both kScrub and kDeny.
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
};

struct FaultReport {
  /// In ascending order of sequence.
  std::vector<Fault> faults;
  /// The argument for the next call of Vm::Faults().
  uint64_t last_sequence = 0;
  /// How many accesses the kernel dropped before this process read them.
  uint64_t lost = 0;
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
/// Map(), Unmap(), UnmapExact(), Reclaim(), Populate() and ForEachBinding() allocate no memory in
/// this process unless they fail.
///
/// @par Thread safety
/// Thread-safe: Adopt(), fd(), Duplicate(), Id(), GuestAddressBits(), Windows(), Map(), Unmap(),
/// UnmapExact(), ForEachBinding(), Query(), Reclaim(), Populate(), Faults(), SetPolicy(),
/// OpenWindow(). The kernel orders changes to one VM.\n
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
  /// - ResourceExhausted (ENOSPC) if the VM has DeviceInfo::max_bindings already;
  /// - PermissionDenied (EACCES) if the guest may write and the descriptor of the memory is
  ///   read-only;
  /// - PermissionDenied (EPERM) if the host lends only secret memory and this memory isn't secret:
  ///   see Device::CreateSecretMemory().
  absl::Status Map(const GuestMemory& memory, const MapOptions& options) const {
    return Map(memory.fd(), options);
  }
  /// Binds a range of guest memory by a descriptor that belongs to another owner.
  absl::Status Map(int guest_memory_fd, const MapOptions& options) const;

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
  /// page again. PermissionDenied (EACCES) under ReclaimPolicy::kDeny. Sets @p nr_pages, if given,
  /// to the number of pages that came back, on failure, too.
  absl::Status Reclaim(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// Provides a range before the guest uses it: allocates each page, and lends or shares it.
  /// NotFound (ENOENT) if part of the range is unbound; Unavailable (EBUSY) if a page is pinned.
  /// Sets @p nr_pages, if given, to the number of pages, counted from the start of the range, that
  /// the guest has now, on failure, too.
  absl::Status Populate(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// Returns the refused accesses whose number is above @p since. The kernel keeps the last 64
  /// rows.
  absl::StatusOr<FaultReport> Faults(uint64_t since = 0) const;

  /// Sets the policy for pages that are lent now or later.
  absl::Status SetPolicy(ReclaimPolicy policy) const;

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
