// SPDX-License-Identifier: MIT OR Apache-2.0
// minivmm can't go on after an error: OrDie() prints it and ends the program.
#ifndef GMEM_TOOLS_MINIVMM_OR_DIE_H_
#define GMEM_TOOLS_MINIVMM_OR_DIE_H_

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/exit_status.h"

namespace minivmm {

[[noreturn]] inline void Die(const absl::Status& error) {
  std::cerr << "minivmm: " << error.message() << "\n";
  std::exit(tools::kExitFailed);
}

inline void OrDie(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

template <typename T>
T OrDie(absl::StatusOr<T> result) {
  if (!result.ok()) Die(result.status());
  return *std::move(result);
}

// @result is that of the system call @call, which fails by -1.
template <typename Result>
Result OrDie(Result result, const char* call) {
  if (result == -1) Die(absl::ErrnoToStatus(errno, call));
  return result;
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_OR_DIE_H_
