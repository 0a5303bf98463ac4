// SPDX-License-Identifier: MIT OR Apache-2.0
// The command that uses the guest's memory: a VMM, as another user.
#ifndef GMEM_TOOLS_BROKER_CHILD_H_
#define GMEM_TOOLS_BROKER_CHILD_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

namespace broker {

// Exit statuses for a command that doesn't start, as the shell has them.
inline constexpr int kExitCantRun = 126;
inline constexpr int kExitNotFound = 127;

struct User {
  std::string name;
  uid_t uid;
  gid_t gid;
  std::string home;
};

// InvalidArgument if there is no such user; another status if that can't be found out.
absl::StatusOr<User> FindUser(const std::string& name);

// Starts a command that inherits @fd, and no other descriptor of this program, in a session without
// a controlling terminal. In each argument, "{}" becomes the descriptor's number; $GMEM_FD has it,
// too. The command runs as @user, if given, with that user's groups and no capabilities; then it
// doesn't inherit the environment and the descriptors that this program has inherited, except a few
// variables and standard input, output and error. Returns its process.
absl::StatusOr<pid_t> StartChild(absl::Span<char* const> arguments, gmem::UniqueFd fd,
                                 const std::optional<User>& user);

}  // namespace broker

#endif  // GMEM_TOOLS_BROKER_CHILD_H_
