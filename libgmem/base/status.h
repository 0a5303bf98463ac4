// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions and macros for the library's errors. Not installed.
#ifndef GMEM_BASE_STATUS_H_
#define GMEM_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/status.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Returns an error with the code that belongs to @error, the text "MESSAGE: <strerror> [errno
// name]", and the errno for GetErrno(). The message names the values and the remedy.
absl::Status ErrnoError(int error, absl::string_view message);

// Returns an error as ErrnoError() does, but without the text of the errno, for errors that the
// library itself finds: the message explains them better.
absl::Status CheckError(int error, absl::string_view message);

}  // namespace gmem::internal
#pragma GCC visibility pop

#define GMEM_RETURN_IF_ERROR(expr)                              \
  do {                                                          \
    if (absl::Status gmem_status = (expr); !gmem_status.ok()) { \
      return gmem_status;                                       \
    }                                                           \
  } while (false)

#define GMEM_CONCAT_INNER(a, b) a##b
#define GMEM_CONCAT(a, b) GMEM_CONCAT_INNER(a, b)

// Example: GMEM_ASSIGN_OR_RETURN(Vm vm, device.CreateVm());
#define GMEM_ASSIGN_OR_RETURN(lhs, expr) \
  GMEM_ASSIGN_OR_RETURN_INNER(GMEM_CONCAT(gmem_statusor_, __LINE__), lhs, expr)
#define GMEM_ASSIGN_OR_RETURN_INNER(statusor, lhs, expr)   \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)

#endif  // GMEM_BASE_STATUS_H_
