// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/capabilities.h"

#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "kvm/abi.h"

namespace gmem::kvm {
namespace {

constexpr uint64_t kSharedFlags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

// "this is Linux 6.12.95", for the reader to compare with the version in the message.
std::string ThisKernel() {
  utsname name = {};
  uname(&name);
  return absl::StrCat("this is ", name.sysname, " ", name.release);
}

absl::Status Missing(absl::string_view what, absl::string_view remedy) {
  return internal::CheckError(EOPNOTSUPP, absl::StrCat(what, ": ", remedy, "; ", ThisKernel()));
}

}  // namespace

const char* ToString(GuestMemfdKind kind) {
  switch (kind) {
    case GuestMemfdKind::kShared:
      return "kShared";
    case GuestMemfdKind::kGuestOnly:
      return "kGuestOnly";
    case GuestMemfdKind::kPrivate:
      return "kPrivate";
  }
  return "unknown";
}

absl::StatusOr<Capabilities> Capabilities::Query(int vm_fd) {
  // A kernel that doesn't know a capability returns 0. The call fails only if the descriptor isn't
  // KVM's, or if another process made the VM.
  const int max_memslots = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
  if (max_memslots < 0) {
    return internal::ErrnoError(
        errno, absl::StrCat("can't ask KVM about descriptor ", vm_fd,
                            errno == EIO ? ", a VM that another process made" : ", not a VM"));
  }
  const auto check = [vm_fd](int capability) {
    return static_cast<uint32_t>(std::max(0, ioctl(vm_fd, KVM_CHECK_EXTENSION, capability)));
  };

  Capabilities caps;
  caps.user_memory_region2 = check(KVM_CAP_USER_MEMORY2) != 0;
  caps.memory_fault_exit = check(KVM_CAP_MEMORY_FAULT_INFO) != 0;
  caps.guest_memfd = check(KVM_CAP_GUEST_MEMFD) != 0;
  caps.read_only_memslots = check(KVM_CAP_READONLY_MEM) != 0;
  caps.max_memslots = static_cast<uint32_t>(max_memslots);
  caps.memory_attributes = check(KVM_CAP_MEMORY_ATTRIBUTES);
  caps.guest_memfd_flags = check(KVM_CAP_GUEST_MEMFD_FLAGS);
  return caps;
}

bool Capabilities::has_private_memory() const {
  return (memory_attributes & KVM_MEMORY_ATTRIBUTE_PRIVATE) != 0;
}

absl::Status Capabilities::CheckGuestMemfd(GuestMemfdKind kind) const {
  if (!guest_memfd || !user_memory_region2) {
    return Missing("KVM has no guest_memfd for this VM (KVM_CAP_GUEST_MEMFD is 0)",
                   "Linux 6.18 or later has it for all, Linux 6.8 for VMs with private memory");
  }
  const uint64_t wanted = kind == GuestMemfdKind::kPrivate     ? 0
                          : kind == GuestMemfdKind::kGuestOnly ? GUEST_MEMFD_FLAG_MMAP
                                                               : kSharedFlags;
  const uint64_t missing = wanted & ~guest_memfd_flags;
  if (missing == 0) return absl::OkStatus();

  const std::string flags = absl::StrCat(
      missing & GUEST_MEMFD_FLAG_MMAP ? "MMAP" : "", missing == kSharedFlags ? " and " : "",
      missing & GUEST_MEMFD_FLAG_INIT_SHARED ? "INIT_SHARED" : "");
  const std::string what =
      absl::StrCat("KVM can't make a ", ToString(kind), " guest_memfd for this VM: it lacks ",
                   flags, " (KVM_CAP_GUEST_MEMFD_FLAGS is 0x", absl::Hex(guest_memfd_flags), ")");
  if (missing == GUEST_MEMFD_FLAG_INIT_SHARED && has_private_memory()) {
    return Missing(what, "a VM with private memory can't have one: use kPrivate");
  }
  return Missing(what, "Linux 6.18 or later has it");
}

absl::Status Capabilities::CheckPrivateMemory() const {
  if (has_private_memory()) return absl::OkStatus();
  return Missing(absl::StrCat("this VM can't have private memory (KVM_CAP_MEMORY_ATTRIBUTES is 0x",
                              absl::Hex(memory_attributes), ")"),
                 "use a VM of another type (SEV-SNP, TDX; or kSoftwareProtectedVm, where the "
                 "kernel has CONFIG_KVM_SW_PROTECTED_VM) and Linux 6.8 or later");
}

}  // namespace gmem::kvm
