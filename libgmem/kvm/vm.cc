// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/vm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/kvm/capabilities.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "kvm/vm_state.h"

namespace gmem::kvm {
namespace {

constexpr int kApiVersion = 12;

}  // namespace

absl::StatusOr<UniqueFd> OpenDevice(const std::string& path) {
  UniqueFd device(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!device) {
    return internal::ErrnoError(
        errno, absl::StrCat("can't open ", path,
                            errno == EACCES ? ": its users are in the group kvm" : ""));
  }
  const int version = ioctl(device.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) return internal::ErrnoError(errno, absl::StrCat(path, " is not KVM's device"));
  if (version != kApiVersion) {
    return internal::CheckError(EOPNOTSUPP, absl::StrCat(path, " has version ", version,
                                                         " of KVM's API, not ", kApiVersion));
  }
  return device;
}

Vm::Vm(std::shared_ptr<VmState> state) : state_(std::move(state)) {}
Vm::~Vm() = default;

int Vm::fd() const { return state_->fd.get(); }
const Capabilities& Vm::capabilities() const { return state_->capabilities; }

absl::StatusOr<Vm> Vm::Create(int device_fd, uint64_t type) {
  UniqueFd fd(ioctl(device_fd, KVM_CREATE_VM, type));
  if (!fd) {
    const int error = errno;
    return internal::ErrnoError(
        error, absl::StrCat("can't create a VM of type ", type,
                            error == EINVAL ? ": this KVM may not support it" : ""));
  }
  return Adopt(std::move(fd));
}

absl::StatusOr<Vm> Vm::Adopt(UniqueFd fd, uint32_t first_memslot) {
  GMEM_ASSIGN_OR_RETURN(Capabilities capabilities, Capabilities::Query(fd.get()));
  return Vm(std::make_shared<VmState>(std::move(fd), capabilities, first_memslot));
}

absl::StatusOr<GuestMemfd> Vm::CreateGuestMemfd(ByteSize size, GuestMemfdKind kind) const {
  if (size == ByteSize(0)) {
    return internal::CheckError(EINVAL, "size is 0: a guest_memfd has at least one page");
  }
  if (!IsAligned(size, HostPageSize())) {
    return internal::CheckError(EINVAL,
                                absl::StrCat("guest_memfd size 0x", absl::Hex(size.value()),
                                             " is not a multiple of ", ToString(HostPageSize())));
  }
  if (size.value() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return internal::CheckError(
        EINVAL, absl::StrCat("guest_memfd size ", ToString(size), " is larger than a file can be"));
  }
  GMEM_RETURN_IF_ERROR(capabilities().CheckGuestMemfd(kind));

  kvm_create_guest_memfd create = {};
  create.size = size.value();
  if (kind != GuestMemfdKind::kPrivate) create.flags |= GUEST_MEMFD_FLAG_MMAP;
  if (kind == GuestMemfdKind::kShared) create.flags |= GUEST_MEMFD_FLAG_INIT_SHARED;
  UniqueFd memfd(ioctl(fd(), KVM_CREATE_GUEST_MEMFD, &create));
  // KVM can't make the descriptor close-on-exec at creation: a fork() and exec() of another thread
  // between the two calls would leak the descriptor to the new program.
  if (!memfd || fcntl(memfd.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return internal::ErrnoError(
        errno, absl::StrCat("can't create a ", ToString(kind), " guest_memfd of ", ToString(size)));
  }
  return GuestMemfd(std::move(memfd), kind, size);
}

absl::Status Vm::SetPrivate(GuestRange range) const {
  return internal::SetMemoryAttributes(*state_, range, KVM_MEMORY_ATTRIBUTE_PRIVATE);
}

absl::Status Vm::SetShared(GuestRange range) const {
  return internal::SetMemoryAttributes(*state_, range, 0);
}

}  // namespace gmem::kvm

namespace gmem::internal {

absl::Status SetMemoryAttributes(const kvm::VmState& vm, GuestRange range, uint64_t attributes) {
  if (range.size == ByteSize(0) || !IsAligned(range.start, HostPageSize()) ||
      !IsAligned(range.size, HostPageSize())) {
    return CheckError(
        EINVAL, absl::StrCat("guest range of ", ToString(range.size), " at ", ToString(range.start),
                             " is empty or not whole pages of ", ToString(HostPageSize())));
  }
  if (!range.IsValid()) {
    return CheckError(EOVERFLOW, absl::StrCat("guest range of ", ToString(range.size), " at ",
                                              ToString(range.start), ": the sum wraps"));
  }
  GMEM_RETURN_IF_ERROR(vm.capabilities.CheckPrivateMemory());

  kvm_memory_attributes set = {};
  set.address = range.start.value();
  set.size = range.size.value();
  set.attributes = attributes;
  // KVM allocates all it needs before it changes anything.
  if (ioctl(vm.fd.get(), KVM_SET_MEMORY_ATTRIBUTES, &set) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make guest range ", ToString(range),
                                          attributes ? " private" : " shared"));
  }
  return absl::OkStatus();
}

}  // namespace gmem::internal
