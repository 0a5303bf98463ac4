// SPDX-License-Identifier: MIT OR Apache-2.0
// The objects of the host, and the flags --vm, --pid and --name, which select some of them.
#ifndef GMEMCTL_OBJECTS_H_
#define GMEMCTL_OBJECTS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "find.h"
#include "gmem/monitor.h"

namespace gmemctl {

struct Objects {
  std::vector<gmem::VmState> vms;
  std::vector<gmem::VmBinding> bindings;
  std::vector<gmem::WindowState> windows;
  std::vector<gmem::GuestMemoryState> memories;
  std::vector<gmem::ViewState> views;
};

// The objects that the flags select. Each of them fits each flag that was given:
//   --vm    the VM with this number
//   --name  VMs that have this name, or a window descriptor with it; guestmems that have it, or a
//           view with it
//   --pid   VMs that this process created or has open, guestmems that it has open; descriptors of
//           their windows and views count, too
// The guestmems that a selected VM has bound are selected, too.
class Selection {
 public:
  static Selection FromFlags();

  bool is_all() const { return vm_ == 0 && pid_ == 0 && name_.empty(); }

  // For an object that is new, or isn't in a list. These look into the process again.
  bool HasVm(const gmem::VmState& vm) const;
  bool HasMemory(uint64_t id, const std::string& name) const;

  // Removes the VMs, guestmems and bindings that aren't selected.
  void Apply(Objects* objects) const;

 private:
  uint32_t vm_ = 0;
  pid_t pid_ = 0;
  std::string name_;
};

// Asks for all objects; with a VM, only for this one's bindings. An older module lacks some kinds
// of objects; there are none of them then.
absl::StatusOr<Objects> AskForObjects(gmem::Monitor& monitor, uint32_t only_vm = 0);

// Asks for the objects that the flags select. NotFound if --vm names no VM.
absl::StatusOr<Objects> AskForSelected(gmem::Monitor& monitor);

}  // namespace gmemctl

#endif  // GMEMCTL_OBJECTS_H_
