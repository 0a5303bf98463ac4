// SPDX-License-Identifier: MIT OR Apache-2.0
// Matchers for absl::Status and absl::StatusOr. Not installed.
#ifndef GMEM_TESTING_MATCHERS_H_
#define GMEM_TESTING_MATCHERS_H_

#include <gmock/gmock.h>

#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "gmem/status.h"

namespace gmem::doubles {

// The status of a Status or a StatusOr.
template <typename Result>
absl::Status StatusOf(const Result& result) {
  if constexpr (std::is_same_v<Result, absl::Status>) {
    return result;
  } else {
    return result.status();
  }
}

// Matches a Status or a StatusOr with that errno, whose message contains that text.
MATCHER_P2(FailsWith, error, text,
           "fails with errno " + std::to_string(error) + " and says \"" + text + "\"") {
  const absl::Status status = StatusOf(arg);
  *result_listener << status;
  return GetErrno(status) == error && std::string(status.message()).find(text) != std::string::npos;
}

MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg);
  return StatusOf(arg).ok();
}

}  // namespace gmem::doubles

#endif  // GMEM_TESTING_MATCHERS_H_
