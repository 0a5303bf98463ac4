// SPDX-License-Identifier: MIT OR Apache-2.0
// The subcommands. Each returns an error, or the exit status of the program.
#ifndef GMEMCTL_COMMANDS_H_
#define GMEMCTL_COMMANDS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/program.h"

namespace gmemctl {

// The rest of the command line after the subcommand and its flags.
using Arguments = tools::Words;

struct Command {
  absl::string_view name;
  absl::string_view arguments;
  absl::string_view summary;
  std::vector<absl::string_view> flags;
  absl::StatusOr<int> (*run)(Arguments arguments);
};

absl::StatusOr<int> RunInfo(Arguments arguments);
absl::StatusOr<int> RunList(Arguments arguments);
absl::StatusOr<int> RunStats(Arguments arguments);
absl::StatusOr<int> RunMonitor(Arguments arguments);
absl::StatusOr<int> RunTop(Arguments arguments);
absl::StatusOr<int> RunFaults(Arguments arguments);
absl::StatusOr<int> RunPolicy(Arguments arguments);
absl::StatusOr<int> RunMap(Arguments arguments);
absl::StatusOr<int> RunExec(Arguments arguments);
absl::StatusOr<int> RunReclaim(Arguments arguments);

}  // namespace gmemctl

#endif  // GMEMCTL_COMMANDS_H_
