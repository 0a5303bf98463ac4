// SPDX-License-Identifier: MIT OR Apache-2.0
// For programs as small as the examples: OrDie() prints an error and ends the program.
#ifndef GMEM_EXAMPLE_OR_DIE_H_
#define GMEM_EXAMPLE_OR_DIE_H_

#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

[[noreturn]] inline void Die(const absl::Status& error) {
  std::cerr << error.message() << "\n";
  std::exit(1);
}

inline void OrDie(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

// Returns the value, if there is one.
template <typename T>
T OrDie(absl::StatusOr<T> result) {
  if (!result.ok()) Die(result.status());
  return *std::move(result);
}

// For system calls: returns their result, if that isn't -1.
template <typename Result>
Result OrDie(Result result, const char* call) {
  if (result == -1) Die(absl::ErrnoToStatus(errno, call));
  return result;
}

#endif  // GMEM_EXAMPLE_OR_DIE_H_
