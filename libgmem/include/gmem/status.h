// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_STATUS_H_
#define GMEM_STATUS_H_

#include <optional>

#include "absl/status/status.h"

namespace gmem {

/// The errno of the system call that failed, if @p status comes from one. Errors that
/// the library finds before it calls the kernel carry the errno that the kernel would
/// have given, so that callers need not tell the two apart.
///
/// How errno becomes a code: EINVAL is InvalidArgument, EOVERFLOW OutOfRange, ENOENT
/// NotFound, EEXIST AlreadyExists, EACCES and EPERM PermissionDenied, EBUSY Unavailable
/// (trying again may help), EOPNOTSUPP, ENOTTY and E2BIG Unimplemented, ENOMEM
/// ResourceExhausted, EIO Internal, EBADMSG and EHWPOISON DataLoss; others as
/// absl::ErrnoToStatusCode() has them.
///
/// Thread-safe.
std::optional<int> GetErrno(const absl::Status& status);

}  // namespace gmem

#endif  // GMEM_STATUS_H_
