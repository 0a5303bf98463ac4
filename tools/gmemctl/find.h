// SPDX-License-Identifier: Apache-2.0
// Descriptors of VMs and guestmems that other processes have.
#ifndef GMEMCTL_FIND_H_
#define GMEMCTL_FIND_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmemctl {

// A duplicate of the descriptor @fd of the process @pid, by pidfd_getfd(). Needs the right
// to trace the process.
absl::StatusOr<gmem::UniqueFd> TakeFd(pid_t pid, int fd);

// Looks through the descriptors of all processes for the VM or guestmem of that number.
// NotFound if no process has it open (a mapping may keep it alive), or none that the caller
// may look into.
absl::StatusOr<gmem::Vm> FindVm(uint32_t vm_id);
absl::StatusOr<gmem::GuestMemory> FindGuestMemory(uint64_t memory_id);

}  // namespace gmemctl

#endif  // GMEMCTL_FIND_H_
