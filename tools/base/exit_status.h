// SPDX-License-Identifier: MIT OR Apache-2.0
// How the programs here end. A program that runs a command has that command's exit status, too; see
// its manual page.
#ifndef GMEM_TOOLS_BASE_EXIT_STATUS_H_
#define GMEM_TOOLS_BASE_EXIT_STATUS_H_

namespace tools {

// 0 is success.
inline constexpr int kExitFailed = 1;
// The command line is wrong; nothing was done.
inline constexpr int kExitUsage = 2;

// As shells have them: the command can't be run, or doesn't exist.
inline constexpr int kExitCantRun = 126;
inline constexpr int kExitNotFound = 127;

}  // namespace tools

#endif  // GMEM_TOOLS_BASE_EXIT_STATUS_H_
