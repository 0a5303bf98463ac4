// SPDX-License-Identifier: MIT OR Apache-2.0
// Descriptors of VMs and guestmems that other processes have.
#ifndef GMEMCTL_FIND_H_
#define GMEMCTL_FIND_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmemctl {

// Duplicates the descriptor @fd of the process @pid, by pidfd_getfd(). The caller needs the right
// to trace the process.
absl::StatusOr<gmem::UniqueFd> TakeFd(pid_t pid, int fd);

// A process that has a VM or guestmem open: its own descriptor, a window descriptor of the VM or a
// view of the guestmem.
struct Holder {
  pid_t pid;
  int fd;
  std::string command;
};
// By the number of the VM or guestmem, then by process and descriptor.
using HoldersById = std::map<uint64_t, std::vector<Holder>>;

// These search the descriptors of all processes that the caller may look into. They don't find a
// process that only has a mapping.
HoldersById FindVmHolders();
HoldersById FindMemoryHolders();

// The numbers of the VMs and guestmems that one process has open in any of these ways; none if the
// caller may not look into the process.
struct HeldObjects {
  std::set<uint64_t> vms, memories;
};
HeldObjects FindHeldBy(pid_t pid);

// These return the VM or guestmem with this number. NotFound if no process that the caller may look
// into has it open, except by a window descriptor or a view.
absl::StatusOr<gmem::Vm> FindVm(uint32_t vm_id);
absl::StatusOr<gmem::GuestMemory> TakeGuestMemory(absl::Span<const Holder> holders,
                                                  uint64_t memory_id);

}  // namespace gmemctl

#endif  // GMEMCTL_FIND_H_
