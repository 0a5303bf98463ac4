// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memslot.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/status.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "kvm/vm_state.h"

namespace gmem::kvm {
namespace {

absl::StatusOr<uint32_t> TakeNumber(VmState& vm) ABSL_LOCKS_EXCLUDED(vm.mutex) {
  const internal::MutexLock lock(&vm.mutex);
  const auto free = std::find(vm.in_use.begin(), vm.in_use.end(), false);
  const auto number = static_cast<uint32_t>(free - vm.in_use.begin());
  if (number + uint64_t{vm.first_memslot} >= vm.capabilities.max_memslots) {
    return internal::CheckError(
        ENOSPC, absl::StrCat("the VM already has all its memslots (", vm.capabilities.max_memslots,
                             "): remove one first"));
  }
  if (free == vm.in_use.end()) {
    vm.in_use.push_back(true);
  } else {
    *free = true;
  }
  return vm.first_memslot + number;
}

void ReturnNumber(VmState& vm, uint32_t id) ABSL_LOCKS_EXCLUDED(vm.mutex) {
  const internal::MutexLock lock(&vm.mutex);
  vm.in_use[id - vm.first_memslot] = false;
}

// Kernels before 6.8 know only the shorter call.
int SetRegion(const VmState& vm, const kvm_userspace_memory_region2& region) {
  if (vm.capabilities.user_memory_region2) {
    return ioctl(vm.fd.get(), KVM_SET_USER_MEMORY_REGION2, &region);
  }
  kvm_userspace_memory_region old = {};
  old.slot = region.slot;
  old.flags = region.flags;
  old.guest_phys_addr = region.guest_phys_addr;
  old.memory_size = region.memory_size;
  old.userspace_addr = region.userspace_addr;
  return ioctl(vm.fd.get(), KVM_SET_USER_MEMORY_REGION, &old);
}

std::string Describe(const MemslotOptions& options) {
  return absl::StrCat("a memslot of ", ToString(ByteSize(options.host.size())),
                      " at guest address ", ToString(options.guest_address));
}

absl::Status CheckGuestMemfd(const MemslotOptions& options) {
  if (options.read_only || options.log_dirty_pages) {
    return internal::CheckError(
        EINVAL, absl::StrCat(Describe(options), " has a guest_memfd, so it can't be ",
                             options.read_only ? "read-only" : "logged for dirty pages"));
  }
  const ByteRange part = {options.guest_memfd_offset, ByteSize(options.host.size())};
  if (!IsAligned(part.start, HostPageSize()) || !options.guest_memfd->range().Contains(part)) {
    return internal::CheckError(
        EINVAL, absl::StrCat(Describe(options), ": its range from offset ", ToString(part.start),
                             " of a guest_memfd of ", ToString(options.guest_memfd->size()),
                             " is not at a multiple of the page size, or ends beyond the file"));
  }
  return absl::OkStatus();
}

absl::Status Check(const VmState& vm, const MemslotOptions& options) {
  const ByteSize page = HostPageSize();
  const ByteSize size(options.host.size());
  const auto host = reinterpret_cast<uintptr_t>(options.host.data());
  if (size == ByteSize(0) || !IsAligned(size, page) || !IsAligned(ByteOffset(host), page)) {
    return internal::CheckError(
        EINVAL, absl::StrCat(Describe(options), " needs host memory in whole pages of ",
                             ToString(page), ", not ", ToString(size), " at 0x", absl::Hex(host)));
  }
  if (!IsAligned(options.guest_address, page)) {
    return internal::CheckError(
        EINVAL, absl::StrCat(Describe(options), ": not a multiple of ", ToString(page)));
  }
  if (!CheckedAdd(options.guest_address, size)) {
    return internal::CheckError(EOVERFLOW, absl::StrCat(Describe(options), ": the sum wraps"));
  }
  if (options.read_only && !vm.capabilities.read_only_memslots) {
    return internal::CheckError(EOPNOTSUPP,
                                "KVM has no read-only memslots here (KVM_CAP_READONLY_MEM is 0)");
  }
  return options.guest_memfd ? CheckGuestMemfd(options) : absl::OkStatus();
}

absl::Status AddError(int error, const MemslotOptions& options) {
  absl::string_view hint;
  if (error == EEXIST) {
    hint = ": it overlaps another memslot, or its guest_memfd range is in use";
  } else if (error == EINVAL && options.guest_memfd) {
    hint = ": the guest_memfd may be another VM's, or in another memslot";
  } else if (error == EIO) {
    hint = ": another process made the VM";
  }
  return internal::ErrnoError(error, absl::StrCat("can't add ", Describe(options), hint));
}

// For "lent, but ...": the conversion itself has succeeded.
absl::Status WithPrefix(absl::string_view prefix, const absl::Status& status) {
  if (status.ok()) return status;
  return internal::CheckError(GetErrno(status).value_or(EIO),
                              absl::StrCat(prefix, status.message()));
}

}  // namespace

absl::StatusOr<Memslot> Vm::AddMemslot(const MemslotOptions& options) const {
  GMEM_RETURN_IF_ERROR(Check(*state_, options));

  Memslot slot;
  kvm_userspace_memory_region2 region = {};
  if (options.guest_memfd) {
    GMEM_ASSIGN_OR_RETURN(UniqueFd fd, UniqueFd::Duplicate(options.guest_memfd->fd()));
    slot.guest_memfd_ =
        GuestMemfd(std::move(fd), options.guest_memfd->kind(), options.guest_memfd->size());
    slot.guest_memfd_offset_ = options.guest_memfd_offset;
    region.flags |= KVM_MEM_GUEST_MEMFD;
    region.guest_memfd = static_cast<uint32_t>(slot.guest_memfd_->fd());
    region.guest_memfd_offset = options.guest_memfd_offset.value();
  }
  if (options.read_only) region.flags |= KVM_MEM_READONLY;
  if (options.log_dirty_pages) region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
  region.guest_phys_addr = options.guest_address.value();
  region.memory_size = options.host.size();
  region.userspace_addr = reinterpret_cast<uintptr_t>(options.host.data());

  GMEM_ASSIGN_OR_RETURN(region.slot, TakeNumber(*state_));
  if (SetRegion(*state_, region) != 0) {
    const int error = errno;
    ReturnNumber(*state_, region.slot);
    return AddError(error, options);
  }
  slot.vm_ = state_;
  slot.id_ = region.slot;
  slot.range_ = {options.guest_address, ByteSize(options.host.size())};
  slot.host_ = options.host.data();
  return slot;
}

Memslot& Memslot::operator=(Memslot&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  vm_ = std::move(other.vm_);
  id_ = other.id_;
  range_ = other.range_;
  host_ = other.host_;
  guest_memfd_ = std::move(other.guest_memfd_);
  guest_memfd_offset_ = other.guest_memfd_offset_;
  return *this;
}

absl::Status Memslot::Remove() {
  if (!vm_) return absl::OkStatus();
  kvm_userspace_memory_region2 region = {};
  region.slot = id_;
  // A size of 0 removes the memslot.
  if (SetRegion(*vm_, region) != 0) {
    const int error = errno;
    return internal::ErrnoError(
        error,
        absl::StrCat("can't remove the memslot at ", ToString(range_),
                     error == EIO ? ": another process made the VM" : ": it is still there"));
  }
  ReturnNumber(*vm_, id_);
  vm_.reset();
  guest_memfd_.reset();
  return absl::OkStatus();
}

void Memslot::Reset() {
  Remove().IgnoreError();
  vm_.reset();
  guest_memfd_.reset();
}

absl::Status Memslot::CheckConversion(GuestRange range) const {
  if (!vm_) return absl::FailedPreconditionError("there is no memslot");
  if (!guest_memfd_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the memslot at ", ToString(range_),
                     " has no guest_memfd, so no range of it can be lent or shared"));
  }
  if (!range_.Contains(range)) {
    return internal::CheckError(
        EINVAL, absl::StrCat("range of ", ToString(range.size), " at ", ToString(range.start),
                             " is not in the memslot at ", ToString(range_)));
  }
  return absl::OkStatus();
}

// Frees the other half only after KVM has converted the range: until then the guest may still use
// it.
absl::Status Memslot::Lend(GuestRange range) {
  GMEM_RETURN_IF_ERROR(CheckConversion(range));
  GMEM_RETURN_IF_ERROR(internal::SetMemoryAttributes(*vm_, range, KVM_MEMORY_ATTRIBUTE_PRIVATE));
  if (guest_memfd_->kind() != GuestMemfdKind::kPrivate) return absl::OkStatus();
  return WithPrefix("lent, but ", DiscardHost(range));
}

absl::Status Memslot::Share(GuestRange range) {
  GMEM_RETURN_IF_ERROR(CheckConversion(range));
  GMEM_RETURN_IF_ERROR(internal::SetMemoryAttributes(*vm_, range, 0));
  if (guest_memfd_->kind() != GuestMemfdKind::kPrivate) return absl::OkStatus();
  const ByteRange part = {guest_memfd_offset_ + (range.start - range_.start), range.size};
  return WithPrefix("shared, but ", guest_memfd_->Discard(part));
}

absl::Status Memslot::DiscardHost(GuestRange range) const {
  uint8_t* const begin = host_ + (range.start - range_.start).value();
  const size_t size = range.size.value();
  // MADV_REMOVE punches a hole if the memory is a shared mapping of a file. If the memory is the
  // process's own, MADV_REMOVE fails with EINVAL or EACCES.
  if (madvise(begin, size, MADV_REMOVE) == 0) return absl::OkStatus();
  if ((errno == EINVAL || errno == EACCES) && madvise(begin, size, MADV_DONTNEED) == 0) {
    return absl::OkStatus();
  }
  return internal::ErrnoError(errno,
                              absl::StrCat("can't free the host's half of ", ToString(range)));
}

}  // namespace gmem::kvm
