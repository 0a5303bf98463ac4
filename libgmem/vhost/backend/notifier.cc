// SPDX-License-Identifier: Apache-2.0
#include "vhost/backend/notifier.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "gmem/unique_fd.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;
using internal::ErrnoError;

absl::StatusOr<Notifier> Notifier::Adopt(UniqueFd fd) {
  if (!fd) return Notifier();
  struct stat state = {};
  // An eventfd has no file type.
  if (fstat(fd.get(), &state) != 0 || (state.st_mode & S_IFMT) != 0) {
    return CheckError(EINVAL, "a descriptor for notifications is a file: use an eventfd");
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoError(errno, "can't use a descriptor for notifications");
  }
  return Notifier(std::move(fd));
}

void Notifier::Signal() const {
  const uint64_t one = 1;
  // A full counter notifies the peer, too.
  [[maybe_unused]] const ssize_t written = write(fd_.get(), &one, sizeof(one));
}

absl::Status Notifier::Drain() const {
  uint64_t value = 0;
  const iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};
  // RWF_NOWAIT, because the front-end has the same open file and may clear O_NONBLOCK.
  if (preadv2(fd_.get(), &iov, 1, -1, RWF_NOWAIT) >= 0 || errno == EAGAIN) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, "can't read a virtqueue's kick");
}

}  // namespace gmem::vhost::backend_internal
