// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_SANDBOX_H_
#define GMEM_TOOLS_VHOST_SANDBOX_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// The system calls of a device, besides those that the back-end library needs.
struct SandboxRules {
  // Names; those that this architecture doesn't have are left out.
  std::vector<std::string> calls = {};
  // The commands of ioctl().
  std::vector<uint64_t> ioctls = {};
};

// From here on, this process and its threads get no new privileges, run no new code, open no files
// and no sockets. Another system call than those that are allowed ends the process by SIGSYS, after
// a line with its number on standard error. Some calls fail instead, because the C library can do
// without them. Call this when all that the device needs is open, and before the first message of a
// front-end. The system's error if there is no sandbox.
//
// @program must stay. @socket_path: a socket that the program removes at its end; may be empty.
absl::Status EnterSandbox(absl::string_view program, const std::string& socket_path,
                          const SandboxRules& rules);

#endif  // GMEM_TOOLS_VHOST_SANDBOX_H_
