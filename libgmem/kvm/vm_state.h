// SPDX-License-Identifier: MIT OR Apache-2.0
// The state that a kvm::Vm and its Memslots share. Not installed.
#ifndef GMEM_KVM_VM_STATE_H_
#define GMEM_KVM_VM_STATE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "gmem/kvm/capabilities.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {

struct __attribute__((visibility("hidden"))) VmState {
  VmState(UniqueFd vm_fd, const Capabilities& caps, uint32_t first_slot)
      : fd(std::move(vm_fd)), capabilities(caps), first_memslot(first_slot) {}

  const UniqueFd fd;
  const Capabilities capabilities;
  const uint32_t first_memslot;

  // A leaf lock: code that holds it calls no other object.
  internal::Mutex mutex;
  // in_use[n] says whether memslot first_memslot + n is in use. Grows on demand.
  std::vector<bool> in_use ABSL_GUARDED_BY(mutex);
};

}  // namespace gmem::kvm

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Calls KVM_SET_MEMORY_ATTRIBUTES after all checks. On an error nothing has changed.
absl::Status SetMemoryAttributes(const kvm::VmState& vm, GuestRange range, uint64_t attributes);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_KVM_VM_STATE_H_
