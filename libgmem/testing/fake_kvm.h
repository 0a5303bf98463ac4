// SPDX-License-Identifier: MIT OR Apache-2.0
// KVM's memory calls without KVM, for tests. Not installed.
#ifndef GMEM_TESTING_FAKE_KVM_H_
#define GMEM_TESTING_FAKE_KVM_H_

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/system_calls.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::doubles {

// Answers ioctl() on the descriptors that NewVm() returned, and records the arguments. A
// guest_memfd is a memfd here. Thread-compatible.
class FakeKvm final : private SystemCalls {
 public:
  // Acts as KVM of Linux 6.18, for a VM without private memory.
  FakeKvm();

  UniqueFd NewVm();

  void SetCapability(int capability, int value) { capabilities_[capability] = value; }
  // Makes the next call of @request fail with @error.
  void FailNext(unsigned long request, int error) { failures_[request] = error; }

  // By memslot number.
  const std::map<uint32_t, kvm_userspace_memory_region2>& memslots() const { return memslots_; }
  const std::vector<kvm_memory_attributes>& attributes() const { return attributes_; }
  const kvm_create_guest_memfd& last_create() const { return last_create_; }
  // The calls so far, in order.
  const std::vector<unsigned long>& requests() const { return requests_; }

 private:
  std::optional<int> Ioctl(int fd, unsigned long request, void* argument) override;
  int Call(unsigned long request, void* argument);
  int CreateGuestMemfd(const kvm_create_guest_memfd& create);
  int SetRegion(const kvm_userspace_memory_region2& region);

  std::vector<int> vms_;
  std::map<int, int> capabilities_;
  std::map<unsigned long, int> failures_;
  std::map<uint32_t, kvm_userspace_memory_region2> memslots_;
  std::vector<kvm_memory_attributes> attributes_;
  std::vector<unsigned long> requests_;
  kvm_create_guest_memfd last_create_ = {};
};

}  // namespace gmem::doubles
#pragma GCC visibility pop

#endif  // GMEM_TESTING_FAKE_KVM_H_
