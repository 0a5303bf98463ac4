// SPDX-License-Identifier: Apache-2.0
// Descriptors of VMs and guestmems that other processes have.
#ifndef GMEMCTL_FIND_H_
#define GMEMCTL_FIND_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/guest_memory.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmemctl {

// A duplicate of the descriptor @fd of the process @pid, by pidfd_getfd(). Needs the right
// to trace the process.
absl::StatusOr<gmem::UniqueFd> TakeFd(pid_t pid, int fd);

// Who has a VM or guestmem open.
struct Holder {
  pid_t pid;
  int fd;
  std::string command;
};
// By the number of the VM or guestmem, then by process and descriptor.
using HoldersById = std::map<uint64_t, std::vector<Holder>>;

// Look through the descriptors of all processes that the caller may look into. Who has
// something mapped alone isn't there.
HoldersById FindVmHolders();
HoldersById FindMemoryHolders();

// The VM or guestmem of that number. NotFound if no process has it open, or none that the
// caller may look into.
absl::StatusOr<gmem::Vm> FindVm(uint32_t vm_id);
absl::StatusOr<gmem::GuestMemory> TakeGuestMemory(absl::Span<const Holder> holders,
                                                  uint64_t memory_id);

}  // namespace gmemctl

#endif  // GMEMCTL_FIND_H_
