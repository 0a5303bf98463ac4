// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/wire/file_type.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <optional>

namespace gmem::vhost::wire_internal {

std::optional<mode_t> FileType(int fd) {
  struct statx info = {};
  if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &info) != 0) {
    return std::nullopt;
  }
  return static_cast<mode_t>(info.stx_mode & S_IFMT);
}

}  // namespace gmem::vhost::wire_internal
