// SPDX-License-Identifier: Apache-2.0
#include "fallocate.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>

#include "gmem/types.h"

namespace gmem::internal {
namespace {

// Walked in less time than lies between two signals, in a virtual machine, too.
constexpr ByteSize kChunk = MiB(2);

int FallocateOnce(int fd, int mode, ByteRange range) {
  int error = 0;
  do {
    error = fallocate(fd, mode, static_cast<off_t>(range.start.value()),
                      static_cast<off_t>(range.size.value())) == 0
                ? 0
                : errno;
  } while (error == EINTR);
  return error;
}

}  // namespace

int FallocateInChunks(int fd, int mode, ByteRange range, ByteSize page_size) {
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) return FallocateOnce(fd, mode, range);
  // Of powers of two, the greater is a multiple of the other.
  const ByteSize most = std::max(kChunk, page_size);
  ByteRange rest = range;
  int error = 0;
  do {
    const ByteRange chunk = {rest.start, std::min(rest.size, most)};
    error = FallocateOnce(fd, mode, chunk);
    rest = {chunk.end(), ByteSize(rest.size.value() - chunk.size.value())};
  } while (error == 0 && rest.size > ByteSize(0));
  return error;
}

}  // namespace gmem::internal
