// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/fake_kvm.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "gmem/unique_fd.h"
#include "kvm/abi.h"

namespace gmem::doubles {
namespace {

bool Overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

FakeKvm::FakeKvm() {
  SetCapability(KVM_CAP_NR_MEMSLOTS, 32764);
  SetCapability(KVM_CAP_READONLY_MEM, 1);
  SetCapability(KVM_CAP_USER_MEMORY2, 1);
  SetCapability(KVM_CAP_MEMORY_FAULT_INFO, 1);
  SetCapability(KVM_CAP_GUEST_MEMFD, 1);
  SetCapability(KVM_CAP_GUEST_MEMFD_FLAGS, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
}

UniqueFd FakeKvm::NewVm() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC));
  vms_.push_back(fd.get());
  return fd;
}

int FakeKvm::CreateGuestMemfd(const kvm_create_guest_memfd& create) {
  last_create_ = create;
  const UniqueFd fd(memfd_create("[kvm-gmem]", 0));
  if (ftruncate(fd.get(), static_cast<off_t>(create.size)) != 0) return -errno;
  // Not close-on-exec, as in KVM.
  return fcntl(fd.get(), F_DUPFD, 0);
}

int FakeKvm::SetRegion(const kvm_userspace_memory_region2& region) {
  if (region.memory_size == 0) return memslots_.erase(region.slot) == 1 ? 0 : -EINVAL;
  const bool overlap = std::any_of(memslots_.begin(), memslots_.end(), [&region](const auto& s) {
    return Overlap(region.guest_phys_addr, region.memory_size, s.second.guest_phys_addr,
                   s.second.memory_size);
  });
  if (overlap) return -EEXIST;
  memslots_[region.slot] = region;
  return 0;
}

// NOLINTNEXTLINE(google-runtime-int): as in ioctl().
int FakeKvm::Call(unsigned long request, void* argument) {
  requests_.push_back(request);
  if (const auto failure = failures_.find(request); failure != failures_.end()) {
    const int error = failure->second;
    failures_.erase(failure);
    return -error;
  }
  switch (request) {
    case KVM_CHECK_EXTENSION:
      return capabilities_[static_cast<int>(reinterpret_cast<intptr_t>(argument))];
    case KVM_CREATE_GUEST_MEMFD:
      return CreateGuestMemfd(*static_cast<kvm_create_guest_memfd*>(argument));
    case KVM_SET_USER_MEMORY_REGION2:
      return SetRegion(*static_cast<kvm_userspace_memory_region2*>(argument));
    case KVM_SET_USER_MEMORY_REGION: {
      const auto& old = *static_cast<kvm_userspace_memory_region*>(argument);
      kvm_userspace_memory_region2 region = {};
      region.slot = old.slot;
      region.flags = old.flags;
      region.guest_phys_addr = old.guest_phys_addr;
      region.memory_size = old.memory_size;
      region.userspace_addr = old.userspace_addr;
      return SetRegion(region);
    }
    case KVM_SET_MEMORY_ATTRIBUTES:
      attributes_.push_back(*static_cast<kvm_memory_attributes*>(argument));
      return 0;
    default:
      return -ENOTTY;
  }
}

std::optional<int> FakeKvm::Ioctl(int fd, unsigned long request, void* argument) {
  if (std::find(vms_.begin(), vms_.end(), fd) == vms_.end()) return std::nullopt;
  return Call(request, argument);
}

}  // namespace gmem::doubles
