// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace gmem {

void UniqueFd::reset(int fd) {
  const int old = std::exchange(fd_, fd < 0 ? -1 : fd);
  if (old < 0) return;
  const int saved = errno;
  // Ignore the result: even if close() fails, the descriptor is closed.
  close(old);
  errno = saved;
}

absl::StatusOr<UniqueFd> UniqueFd::Duplicate(int fd) {
  UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!copy) return internal::ErrnoError(errno, absl::StrCat("can't duplicate descriptor ", fd));
  return copy;
}

}  // namespace gmem
