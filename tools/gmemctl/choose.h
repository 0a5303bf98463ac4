// SPDX-License-Identifier: MIT OR Apache-2.0
// The one VM that the command line names.
#ifndef GMEMCTL_CHOOSE_H_
#define GMEMCTL_CHOOSE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "gmem/monitor.h"
#include "gmem/vm.h"

namespace gmemctl {

// Returns the number of the VM that the flags --vm, --pid and --name select. Each of them may be
// absent. InvalidArgument if they select more than one VM, NotFound if they select none.
absl::StatusOr<uint32_t> ChooseVm(gmem::Monitor& monitor);

// Takes the VM that these flags select, or that is the descriptor --fd of the process --pid.
// InvalidArgument without any of the flags.
absl::StatusOr<gmem::Vm> TakeChosenVm();

}  // namespace gmemctl

#endif  // GMEMCTL_CHOOSE_H_
