// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_DEVICE_H_
#define GMEM_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/guest_memory.h"
#include "gmem/numa_policy.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmem {

/// The abilities of one provider. A provider gives guests access to their memory: "window" works
/// through a mapping of the VM's memory (KVM uses it), "gunyah" through the Gunyah hypervisor.
struct ProviderInfo {
  std::string name;
  /// The widest guest address space that a VM can have on this host, in bits.
  int max_guest_address_bits = 0;
  /// The lowest guest address that memory can be bound at; those below are for devices.
  GuestAddress min_guest_address = GuestAddress(0);
  /// A guest gets its memory when it starts: bind all of it before. See GMEM_PROVIDER_BIND_FIRST.
  bool binds_first = false;
  /// A shared page may be in several bindings at a time.
  bool can_share_many = false;
  /// Window::Create() works for VMs of this provider.
  bool has_windows = false;
  /// One bit per combination of permissions: bit (read | write << 1 | execute << 2) is set if the
  /// provider can enforce that combination.
  uint32_t map_access = 0;

  /// Can the provider enforce exactly these permissions? Vm::Map() refuses other combinations.
  bool CanEnforce(bool read, bool write, bool execute) const {
    return (map_access >> (read | write << 1 | execute << 2) & 1) != 0;
  }
};

/// The abilities of the kernel module.
struct DeviceInfo {
  /// GMEM_ABI_VERSION of the module.
  uint32_t abi_version = 0;
  ByteSize page_size = {};
  /// 0 if the host doesn't support GuestMemoryOptions::huge_pages.
  ByteSize huge_page_size = {};
  /// VMs can have live windows: WindowKind::kLive.
  bool has_live_windows = false;
  /// A VM with live windows takes memory with huge pages.
  bool has_live_huge_pages = false;
  /// Vm::OpenWindow() works for VMs with live windows.
  bool has_window_descriptors = false;
  /// GuestMemory::CreateView() works.
  bool has_views = false;
  /// VMs, guestmems, window descriptors and views can have names.
  bool has_names = false;
  /// GuestMemoryOptions::numa works.
  bool has_numa_policies = false;
  /// Vm::Change() works.
  bool has_change = false;
  /// MapOptions::policy and MapOptions::join work.
  bool has_map_options = false;
  /// GuestMemory::Runs() works, Fault::thread is known, and POLLPRI tells of new faults.
  bool has_page_runs = false;
  /// GuestMemoryOptions::cgroup_fd works.
  bool has_memory_cgroups = false;
  /// VmOptions::absent works for VMs with live windows.
  bool has_waiting = false;
  /// How many bindings a VM can have. 0 if the module doesn't say.
  uint32_t max_bindings = 0;
  /// How many bindings all VMs of one user can have together, and how many the VMs of this
  /// descriptor's user have now. A user is the effective user that has opened the device. Both are 0
  /// if the module doesn't say.
  uint64_t max_user_bindings = 0;
  uint64_t user_bindings = 0;
  /// The providers of this host; never empty. A VM gets the first one by default.
  std::vector<ProviderInfo> providers;
};

/// Counters of the whole module.
struct DeviceStats {
  /// Objects that exist now.
  uint64_t vms = 0;
  uint64_t guest_memories = 0;
  uint64_t bindings = 0;
  /// Pages that only guests can access now.
  uint64_t lent_pages = 0;
  /// Pages that a provider never gave back. They stay out of use until the host reboots.
  uint64_t leaked_pages = 0;
  /// Since the module was loaded: pages lent, pages taken back, guest accesses refused.
  uint64_t lends = 0;
  uint64_t reclaims = 0;
  uint64_t refused = 0;
};

/// How many characters a name may have: of a VM, a guestmem, a window descriptor or a view. The
/// host's operator sees names, for example in VmState. A name has printable ASCII characters only.
inline constexpr size_t kMaxNameLength = 31;

struct VmOptions {
  /// Name of the provider, at most 15 characters. Empty: the host's default provider.
  std::string provider = {};
  ReclaimPolicy policy = ReclaimPolicy::kAllow;
  /// Width of the guest address space in bits. 0: the widest that the provider has.
  int guest_address_bits = 0;
  /// The kind of the VM's windows. kBest gives the VM the live kind if the provider and the kernel
  /// have it, and if it takes the VM's memory (see huge_pages); else the paged kind, if the
  /// provider has windows. kNone can't be chosen. Choose kPaged if another program or device pins
  /// the guest's memory through the window: see WindowKind.
  WindowKind windows = WindowKind::kBest;
  /// The VMM will bind memory with huge pages (GuestMemoryOptions::huge_pages). Set it in both
  /// options, also if your own kernel doesn't need it here: live windows of kernels before 6.13
  /// take no such memory. There, kBest then means kPaged; without this option it means kLive, and
  /// Vm::Map() refuses the memory.
  bool huge_pages = false;
  /// At most kMaxNameLength characters. Empty: no name.
  std::string name = {};
  /// Accesses to unbound pages fail, or wait: for lazy restore and postcopy migration. Waiting needs
  /// live windows, so kBest then means kLive.
  AbsentPages absent = AbsentPages::kFail;
};

struct GuestMemoryOptions {
  /// Back the memory with huge pages. GuestMemory::page_size(), and so the alignment of every
  /// range, is then DeviceInfo::huge_page_size. Tell the VM, too: VmOptions::huge_pages.
  bool huge_pages = false;
  /// At most kMaxNameLength characters. Empty: no name.
  std::string name = {};
  /// The nodes that all pages come from. kDefault: those that the policy of the thread selects which
  /// first touches a page. mbind(2) of a mapping sets another policy for a range.
  NumaPolicy numa = {};
  /// A descriptor of a directory of the cgroup2 filesystem: the memory cgroup that pays for all
  /// pages, for example the VMM's where a broker makes and fills the memory. -1: the cgroup of the
  /// process pays that uses a page first. The caller keeps the descriptor, and may close it after
  /// the creation.
  int cgroup_fd = -1;
};

/// The device /dev/gmem, which creates VMs and guest memory.
///
/// @par Thread safety
/// Thread-safe: Open(), Adopt(), fd(), Info(), Stats(), CreateVm(), CreateGuestMemory(),
/// CreateSecretMemory().\n
/// Needs exclusive access: Release(), moving, destroying.
class Device {
 public:
  static constexpr char kPath[] = "/dev/gmem";

  /// Opens the device. NotFound (ENOENT) if the module isn't loaded. PermissionDenied (EACCES) if
  /// the device's mode or group doesn't let the process open it; the administrator sets both.
  static absl::StatusOr<Device> Open(const char* path = kPath);

  /// Takes over an open descriptor of the device, for example one that came over a socket.
  /// InvalidArgument if the descriptor is of another kind; Adopt() closes it then.
  static absl::StatusOr<Device> Adopt(UniqueFd fd);

  int fd() const { return fd_.get(); }

  absl::StatusOr<DeviceInfo> Info() const;
  absl::StatusOr<DeviceStats> Stats() const;

  /// Creates a VM. Unimplemented (EOPNOTSUPP) if the host doesn't have the provider, or if
  /// @p options asks for live windows and the host or the provider has none. InvalidArgument
  /// (EINVAL) if the provider doesn't support an address space of that width, for windows of
  /// kNone, or for a name that is too long or isn't printable. Unimplemented (EOPNOTSUPP) for a
  /// name if the module has no names: load a gmem.ko of ABI 2 or later; for waiting if the module
  /// has none (ABI 4), or for windows of kPaged.
  absl::StatusOr<Vm> CreateVm(const VmOptions& options = {}) const;

  /// Creates guest memory of @p size bytes. The size is a multiple of the page size and never
  /// changes. Creation allocates no pages: a page appears, zeroed, at its first use or when
  /// GuestMemory::Allocate() covers it. Unimplemented (EOPNOTSUPP) if @p options asks for huge
  /// pages and the host has none, or for a NUMA policy and the host has no NUMA or the module no
  /// policies: load a gmem.ko of ABI 3 or later. InvalidArgument (EINVAL) if a node of the policy
  /// doesn't exist, has no memory or may not be used by this process, or if the list of nodes
  /// doesn't suit the mode. A name has the rules of CreateVm().
  ///
  /// For GuestMemoryOptions::cgroup_fd: InvalidArgument (EBADF) if it isn't a directory of the
  /// cgroup2 filesystem; PermissionDenied (EACCES) if this process isn't in that cgroup and may not
  /// write to the directory; Unimplemented (EOPNOTSUPP) if the memory controller isn't in the
  /// cgroup2 hierarchy, or the module is of an ABI before 4.
  absl::StatusOr<GuestMemory> CreateGuestMemory(ByteSize size,
                                                const GuestMemoryOptions& options = {}) const;

  /// Creates guest memory that isn't in the kernel's own linear map (memfd_secret), so that no
  /// stray access of the kernel reaches lent pages. On some hosts, the provider "gunyah" lends only
  /// such memory: see Vm::Map(). This call allocates all of the memory. The memory counts as locked
  /// (RLIMIT_MEMLOCK) as long as it exists, and no part of it can be freed. Unimplemented (ENOSYS,
  /// EOPNOTSUPP) if the kernel has no such memory. Raises SIGBUS if the host runs out of memory. A
  /// name has the rules of CreateVm().
  absl::StatusOr<GuestMemory> CreateSecretMemory(ByteSize size, absl::string_view name = {}) const;

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  explicit Device(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem

#endif  // GMEM_DEVICE_H_
