// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_STATUS_H_
#define GMEM_STATUS_H_

#include <optional>

#include "absl/status/status.h"

namespace gmem {

/// Returns the errno of the failed system call, if @p status comes from one. If the library finds
/// an error before it calls the kernel, the status carries the errno that the kernel would return,
/// so that callers need not distinguish the two cases.
///
/// Each errno has a status code: EINVAL is InvalidArgument, EOVERFLOW OutOfRange, ENOENT NotFound,
/// EEXIST AlreadyExists, EACCES and EPERM PermissionDenied, EBUSY Unavailable (trying again may
/// help), EOPNOTSUPP, ENOTTY and E2BIG Unimplemented, ENOMEM ResourceExhausted, EIO Internal,
/// EBADMSG and EHWPOISON DataLoss. absl::ErrnoToStatusCode() decides all others.
///
/// Thread-safe.
std::optional<int> GetErrno(const absl::Status& status);

}  // namespace gmem

#endif  // GMEM_STATUS_H_
