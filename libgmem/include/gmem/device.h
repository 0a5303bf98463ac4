// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_DEVICE_H_
#define GMEM_DEVICE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmem {

/// What one provider can do. A provider carries out, for a VM, that guest accesses
/// reach memory: "window" (KVM, or any mapping), "gunyah".
struct ProviderInfo {
  std::string name;
  /// The widest guest address space.
  int max_guest_address_bits = 0;
  /// A shared page may be in several bindings.
  bool can_share_many = false;
  /// Window::Create() works.
  bool has_windows = false;
  /// Bit (read | write << 1 | execute << 2) is set if that combination can be enforced.
  uint32_t map_access = 0;

  /// Can the provider enforce just these permissions? Others are refused by Vm::Map().
  bool CanEnforce(bool read, bool write, bool execute) const {
    return (map_access >> (read | write << 1 | execute << 2) & 1) != 0;
  }
};

/// What the kernel module can do.
struct DeviceInfo {
  /// GMEM_ABI_VERSION of the module.
  uint32_t abi_version = 0;
  ByteSize page_size = {};
  /// 0 where GuestMemoryOptions::huge_pages doesn't work.
  ByteSize huge_page_size = {};
  /// The first is the one that a VM gets by default. Not empty.
  std::vector<ProviderInfo> providers;
};

/// Counters of the whole module.
struct DeviceStats {
  /// What exists now.
  uint64_t vms = 0;
  uint64_t guest_memories = 0;
  uint64_t bindings = 0;
  /// Pages that guests hold now, without the host.
  uint64_t lent_pages = 0;
  /// Pages that a provider never gave back; out of use until the host reboots.
  uint64_t leaked_pages = 0;
  /// Since the module was loaded: pages lent, pages taken back, guest accesses refused.
  uint64_t lends = 0;
  uint64_t reclaims = 0;
  uint64_t refused = 0;
};

struct VmOptions {
  /// Empty: the best one of the host. At most 15 characters.
  std::string provider = {};
  ReclaimPolicy policy = ReclaimPolicy::kAllow;
  /// Width of the guest address space; 0: the widest.
  int guest_address_bits = 0;
};

struct GuestMemoryOptions {
  /// Back the memory with huge pages. Its page size, and with it the alignment of
  /// every range, is then DeviceInfo::huge_page_size.
  bool huge_pages = false;
};

/// /dev/gmem: where VMs and guest memory come from.
///
/// @par Thread safety
/// Thread-safe: Open(), Adopt(), fd(), Info(), Stats(), CreateVm(), CreateGuestMemory(),
/// CreateSecretMemory().\n
/// Needs exclusive access: Release(), moving, destroying.
class Device {
 public:
  static constexpr char kPath[] = "/dev/gmem";

  /// NotFound (ENOENT) if the module isn't loaded, PermissionDenied (EACCES) without
  /// rights to the device: who may use it is the administrator's to say.
  static absl::StatusOr<Device> Open(const char* path = kPath);

  /// Takes an open device over, say from a socket. InvalidArgument if it is something
  /// else; it is closed then.
  static absl::StatusOr<Device> Adopt(UniqueFd fd);

  int fd() const { return fd_.get(); }

  absl::StatusOr<DeviceInfo> Info() const;
  absl::StatusOr<DeviceStats> Stats() const;

  /// Unimplemented (EOPNOTSUPP) if the host has no such provider, InvalidArgument (EINVAL)
  /// for an address width beyond the provider's.
  absl::StatusOr<Vm> CreateVm(const VmOptions& options = {}) const;

  /// Guest memory of @p size bytes, a multiple of the page size, fixed for its life. Takes
  /// no memory yet: pages appear, zeroed, at their first use or by Allocate().
  /// Unimplemented (EOPNOTSUPP) if there are no huge pages and @p options asks for some.
  absl::StatusOr<GuestMemory> CreateGuestMemory(ByteSize size,
                                                const GuestMemoryOptions& options = {}) const;

  /// Guest memory that the kernel itself doesn't have in its linear map (memfd_secret), so
  /// that no stray access of the kernel's reaches what is lent: the provider "gunyah" asks
  /// for it. All of it is allocated now, it counts as locked memory meanwhile
  /// (RLIMIT_MEMLOCK), and no part of it can be freed. Unimplemented if the kernel has no
  /// such memory (ENOSYS, EOPNOTSUPP). Raises SIGBUS if the host runs out of memory.
  absl::StatusOr<GuestMemory> CreateSecretMemory(ByteSize size) const;

  /// Gives the descriptor away.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  explicit Device(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem

#endif  // GMEM_DEVICE_H_
