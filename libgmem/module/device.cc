// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/device.h"

#include <fcntl.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/numa_mode.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/numa_policy.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "module/newer_module.h"
#include "module/object_name.h"

namespace gmem {
namespace {

using internal::CheckError;
using internal::ErrnoError;
using internal::NewerModuleError;

// MISC_MAJOR of linux/major.h.
constexpr unsigned int kMiscMajor = 10;

// Returns 0 or an errno.
int GetInfo(int fd, uint32_t provider_index, gmem_info* info) {
  *info = {};
  info->size = sizeof(*info);
  info->provider_index = provider_index;
  return ioctl(fd, GMEM_INFO, info) == 0 ? 0 : errno;
}

ProviderInfo ToProviderInfo(const gmem_info& info) {
  const auto* const name = reinterpret_cast<const char*>(info.provider_name);
  return {.name = std::string(name, strnlen(name, sizeof(info.provider_name))),
          .max_guest_address_bits = static_cast<int>(info.max_guest_addr_bits),
          .min_guest_address = GuestAddress(info.min_guest_addr),
          .binds_first = (info.provider_flags & GMEM_PROVIDER_BIND_FIRST) != 0,
          .can_share_many = (info.provider_flags & GMEM_PROVIDER_SHARE_MULTI) != 0,
          .has_windows = (info.provider_flags & GMEM_PROVIDER_WINDOW) != 0,
          .map_access = info.map_access};
}

std::string JoinNames(const std::vector<ProviderInfo>& providers) {
  return absl::StrJoin(providers, ", ", [](std::string* out, const ProviderInfo& provider) {
    absl::StrAppend(out, provider.name);
  });
}

// Explains why CreateVm() failed with EINVAL.
std::string FindVmMistake(const VmOptions& options, const std::vector<ProviderInfo>& providers) {
  const auto provider =
      std::find_if(providers.begin(), providers.end(), [&options](const ProviderInfo& candidate) {
        return options.provider.empty() || candidate.name == options.provider;
      });
  const int bits = options.guest_address_bits;
  if (provider != providers.end() && (bits < 0 || bits > provider->max_guest_address_bits)) {
    return absl::StrCat("guest_address_bits ", bits, " is not within the ",
                        provider->max_guest_address_bits, " of provider \"", provider->name, "\"");
  }
  return absl::StrCat("guest_address_bits ", bits, " or reclaim policy ",
                      static_cast<int>(options.policy), " is not valid");
}

uint32_t WaitFlags(const VmOptions& options) {
  switch (options.absent) {
    case AbsentPages::kFail:
      break;
    case AbsentPages::kWait:
      return GMEM_VM_WAIT;
    case AbsentPages::kWaitOrSignal:
      return GMEM_VM_WAIT | GMEM_VM_WAIT_SIGNALS;
  }
  return 0;
}

bool WantsLive(int fd, const VmOptions& options) {
  if (options.windows == WindowKind::kBest && WaitFlags(options) != 0) return true;
  if (options.windows != WindowKind::kBest) return options.windows == WindowKind::kLive;
  gmem_info info;
  if (GetInfo(fd, 0, &info) != 0) return false;
  uint64_t needed = GMEM_FEATURE_LIVE;
  if (options.huge_pages) needed |= GMEM_FEATURE_LIVE_HUGE;
  return (info.features & needed) == needed;
}

absl::Status CreateVmError(const Device& device, const VmOptions& options, int error) {
  std::string message = "can't create a VM";
  if (!options.provider.empty()) {
    absl::StrAppend(&message, " with provider \"", options.provider, "\"");
  }
  const absl::StatusOr<DeviceInfo> info = device.Info();
  if (!info.ok()) return ErrnoError(error, message);
  // A module without names treats the name as an unknown part of the struct.
  if (!options.name.empty() && !info->has_names) {
    return NewerModuleError(EOPNOTSUPP, absl::StrCat(message, " with a name"), "names");
  }
  if (WaitFlags(options) != 0 && !info->has_waiting) {
    absl::StrAppend(&message, " whose accesses wait");
    if (info->abi_version < 4) return NewerModuleError(EOPNOTSUPP, message, "waiting", 4);
    return CheckError(EOPNOTSUPP, absl::StrCat(message, ": this host's kernel has no live windows"));
  }
  if (WaitFlags(options) != 0 && options.windows == WindowKind::kPaged) {
    return CheckError(error, absl::StrCat(message, " whose accesses wait: that needs live windows"));
  }
  if (options.windows == WindowKind::kLive && !info->has_live_windows) {
    absl::StrAppend(&message, " with live windows");
    if (info->abi_version < 2) return NewerModuleError(EOPNOTSUPP, message, "live windows");
    return CheckError(EOPNOTSUPP, absl::StrCat(message, ": this host's kernel can't have them"));
  }
  if (error == EOPNOTSUPP) {
    absl::StrAppend(&message, options.windows == WindowKind::kLive ? " and live windows" : "",
                    "; this host has: ", JoinNames(info->providers));
  }
  if (error == EINVAL) absl::StrAppend(&message, "; ", FindVmMistake(options, info->providers));
  return ErrnoError(error, message);
}

}  // namespace

absl::StatusOr<Device> Device::Open(const char* path) {
  UniqueFd fd(open(path, O_RDWR | O_CLOEXEC));
  if (fd) return Adopt(std::move(fd));

  switch (const int error = errno) {
    case ENOENT:
      return ErrnoError(error, absl::StrCat("can't open ", path, ": load the module gmem"));
    case EACCES:
      return ErrnoError(
          error, absl::StrCat("can't open ", path, ": the user must be in the device's group"));
    default:
      return ErrnoError(error, absl::StrCat("can't open ", path));
  }
}

absl::StatusOr<Device> Device::Adopt(UniqueFd fd) {
  struct stat stat = {};
  int error = fstat(fd.get(), &stat) == 0 ? 0 : errno;
  if (error == 0) {
    // The descriptor may be of any device. Call ioctl() only if it is of a misc device, because the
    // number may have another meaning elsewhere.
    const bool misc = S_ISCHR(stat.st_mode) && major(stat.st_rdev) == kMiscMajor;
    gmem_info info;
    error = misc ? GetInfo(fd.get(), 0, &info) : ENOTTY;
  }
  if (error == 0) return Device(std::move(fd));
  if (error != ENOTTY) {
    return ErrnoError(error, absl::StrCat("can't use descriptor ", fd.get()));
  }
  return CheckError(EINVAL, absl::StrCat("descriptor ", fd.get(), " is not ", kPath));
}

absl::StatusOr<DeviceInfo> Device::Info() const {
  DeviceInfo result;
  gmem_info info;
  uint32_t index = 0;
  do {
    if (const int error = GetInfo(fd_.get(), index, &info); error != 0) {
      return ErrnoError(error, "can't ask the module for its abilities");
    }
    result.providers.push_back(ToProviderInfo(info));
  } while (++index < info.nr_providers);
  const auto has = [&info](uint64_t feature) { return (info.features & feature) != 0; };
  result.abi_version = info.abi_version;
  result.page_size = ByteSize(info.page_size);
  result.huge_page_size = ByteSize(info.huge_page_size);
  result.has_live_windows = has(GMEM_FEATURE_LIVE);
  result.has_live_huge_pages = has(GMEM_FEATURE_LIVE_HUGE);
  result.has_window_descriptors = has(GMEM_FEATURE_WINDOW);
  result.has_views = has(GMEM_FEATURE_VIEW);
  result.has_names = has(GMEM_FEATURE_NAME);
  result.has_numa_policies = has(GMEM_FEATURE_NUMA);
  result.has_change = has(GMEM_FEATURE_CHANGE);
  result.has_map_options = has(GMEM_FEATURE_MAP);
  result.has_page_runs = has(GMEM_FEATURE_RUNS);
  result.has_memory_cgroups = has(GMEM_FEATURE_CGROUP);
  result.has_waiting = has(GMEM_FEATURE_WAIT);
  result.max_bindings = info.max_bindings;
  result.max_user_bindings = info.max_user_bindings;
  result.user_bindings = info.user_bindings;
  return result;
}

absl::StatusOr<DeviceStats> Device::Stats() const {
  gmem_stats stats = {};
  stats.size = sizeof(stats);
  if (ioctl(fd_.get(), GMEM_STATS, &stats) != 0) {
    return ErrnoError(errno, "can't read the module's counters");
  }
  return DeviceStats{.vms = stats.vms,
                     .guest_memories = stats.mems,
                     .bindings = stats.bindings,
                     .lent_pages = stats.lent_pages,
                     .leaked_pages = stats.leaked_pages,
                     .lends = stats.lends,
                     .reclaims = stats.reclaims,
                     .refused = stats.refused};
}

absl::StatusOr<Vm> Device::CreateVm(const VmOptions& options) const {
  gmem_vm_create create = {};
  create.size = sizeof(create);
  create.policy = static_cast<uint32_t>(options.policy);
  create.guest_addr_bits = static_cast<uint32_t>(options.guest_address_bits);
  if (options.provider.size() >= sizeof(create.provider_name)) {
    return CheckError(EOPNOTSUPP,
                      absl::StrCat("no provider has a name as long as \"", options.provider, "\""));
  }
  if (options.provider.find('\0') != std::string::npos) {
    return CheckError(
        EINVAL, absl::StrCat("no provider is called \"", absl::CHexEscape(options.provider), "\""));
  }
  std::copy(options.provider.begin(), options.provider.end(), create.provider_name);
  GMEM_RETURN_IF_ERROR(internal::SetName(options.name, create.name));
  if (options.windows == WindowKind::kNone) {
    return CheckError(EINVAL,
                      "can't create a VM with WindowKind::kNone: choose kBest, kPaged or kLive");
  }

  if (WantsLive(fd_.get(), options)) create.flags = GMEM_VM_LIVE;
  create.flags |= WaitFlags(options);
  UniqueFd fd(ioctl(fd_.get(), GMEM_VM_CREATE, &create));
  if (!fd && errno == EOPNOTSUPP && options.windows == WindowKind::kBest &&
      create.flags == GMEM_VM_LIVE) {
    // The module has live windows, but this provider has none.
    create.flags = 0;
    fd = UniqueFd(ioctl(fd_.get(), GMEM_VM_CREATE, &create));
  }
  if (fd) return Vm(std::move(fd));
  return CreateVmError(*this, options, errno);
}

namespace {

absl::Status CreateMemoryError(const Device& device, ByteSize size,
                               const GuestMemoryOptions& options, int error) {
  const std::string what = absl::StrCat("can't create a guestmem of ", ToString(size));
  if (error == EOPNOTSUPP && options.huge_pages) {
    return ErrnoError(error, absl::StrCat(what, " with huge pages: this kernel has none"));
  }
  if (error == EINVAL) {
    const absl::StatusOr<DeviceInfo> info = device.Info();
    // A module without names has reserved fields there.
    if (info.ok() && !options.name.empty() && !info->has_names) {
      return NewerModuleError(EOPNOTSUPP, absl::StrCat(what, " with a name"), "names");
    }
    if (info.ok()) {
      const ByteSize page = options.huge_pages ? info->huge_page_size : info->page_size;
      const std::string wrong = internal::FindRangeError(
          {.start_name = "offset", .page_size = page, .page_owner = "guestmem"}, 0, size);
      return CheckError(error, absl::StrCat(what, ": ", wrong.empty() ? "too large" : wrong));
    }
  }
  return ErrnoError(error, what);
}

// Null if the cgroup isn't the reason.
absl::Status FindCgroupError(const DeviceInfo& info, const std::string& what, int error) {
  const std::string of_group = absl::StrCat(what, " for a memory cgroup");
  if (error == EBADF) {
    return CheckError(error, absl::StrCat(of_group, ": cgroup_fd isn't a directory of cgroup2"));
  }
  if (error == EACCES) {
    return ErrnoError(error, absl::StrCat(of_group, ": this process isn't in the cgroup and may ",
                                          "not write to its directory"));
  }
  if (!info.has_memory_cgroups && info.abi_version < 4) {
    return NewerModuleError(EOPNOTSUPP, of_group, "memory cgroups", 4);
  }
  if (!info.has_memory_cgroups) {
    return CheckError(EOPNOTSUPP, absl::StrCat(of_group, ": this host has no memory controller in ",
                                               "its cgroup2 hierarchy"));
  }
  return absl::OkStatus();
}

// The module returns the same errno for a wrong size and for wrong nodes.
absl::Status CreateWithPolicyError(const Device& device, ByteSize size,
                                   const GuestMemoryOptions& options, int error) {
  const std::string what = absl::StrCat("can't create a guestmem of ", ToString(size),
                                        " with pages from the NUMA nodes {",
                                        absl::StrJoin(options.numa.nodes, ", "), "}");
  const absl::StatusOr<DeviceInfo> info = device.Info();
  if (!info.ok()) return ErrnoError(error, what);
  if (options.cgroup_fd >= 0) {
    GMEM_RETURN_IF_ERROR(FindCgroupError(
        *info, absl::StrCat("can't create a guestmem of ", ToString(size)), error));
  }
  if (error == ENOTTY) return NewerModuleError(EOPNOTSUPP, what, "NUMA policies", 3);
  if (error == EOPNOTSUPP && !info->has_numa_policies) {
    return ErrnoError(error, absl::StrCat(what, ": this kernel has no NUMA"));
  }
  const ByteSize page = options.huge_pages ? info->huge_page_size : info->page_size;
  if (error != EINVAL || !IsAligned(size, page) || size == ByteSize(0)) {
    return CreateMemoryError(device, size, options, error);
  }
  return CheckError(
      error, absl::StrCat(what, ": a node doesn't exist, has no memory, or this process may not ",
                          "use it; or the mode takes another number of nodes"));
}

// Only the newer of the two calls takes a policy or a cgroup.
absl::StatusOr<GuestMemory> CreateWithPolicy(const Device& device, ByteSize size,
                                             const GuestMemoryOptions& options) {
  std::array<uint64_t, GMEM_NUMA_MAX_NODES / 64> nodes = {};
  for (const int node : options.numa.nodes) {
    if (node < 0 || node >= GMEM_NUMA_MAX_NODES) {
      return CheckError(EINVAL, absl::StrCat("NUMA node ", node, " is out of range"));
    }
    nodes[static_cast<size_t>(node) / 64] |= uint64_t{1} << (node % 64);
  }
  gmem_mem_create create = {};
  create.size = sizeof(create);
  if (options.huge_pages) create.flags = GMEM_MEM_ALLOW_HUGEPAGE;
  create.length = size.value();
  GMEM_RETURN_IF_ERROR(internal::SetName(options.name, create.name));
  create.numa_mode = static_cast<uint32_t>(internal::KernelMode(options.numa.mode));
  create.nr_nodes = options.numa.nodes.empty() ? 0 : GMEM_NUMA_MAX_NODES;
  create.nodes = reinterpret_cast<uintptr_t>(nodes.data());
  if (options.cgroup_fd >= 0) {
    create.flags |= GMEM_MEM_CGROUP;
    create.cgroup_fd = options.cgroup_fd;
  }
  UniqueFd fd(ioctl(device.fd(), GMEM_MEM_CREATE, &create));
  if (fd) return GuestMemory::Adopt(std::move(fd));
  return CreateWithPolicyError(device, size, options, errno);
}

}  // namespace

absl::StatusOr<GuestMemory> Device::CreateGuestMemory(ByteSize size,
                                                      const GuestMemoryOptions& options) const {
  if (options.numa.mode != NumaMode::kDefault || !options.numa.nodes.empty() ||
      options.cgroup_fd >= 0) {
    return CreateWithPolicy(*this, size, options);
  }
  gmem_create_mem create = {};
  create.flags = GMEM_MEM_CLOEXEC;
  if (options.huge_pages) create.flags |= GMEM_MEM_ALLOW_HUGEPAGE;
  create.size = size.value();
  GMEM_RETURN_IF_ERROR(internal::SetName(options.name, create.name));
  UniqueFd fd(ioctl(fd_.get(), GMEM_CREATE_MEM, &create));
  if (fd) return GuestMemory::Adopt(std::move(fd));

  return CreateMemoryError(*this, size, options, errno);
}

}  // namespace gmem
