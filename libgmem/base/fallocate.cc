// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/fallocate.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>

#include "gmem/types.h"

namespace gmem::internal {
namespace {

// The module gives up a call's allocated pages when a signal comes, so a call must be short.
constexpr ByteSize kChunk = MiB(2);

int FallocateOnce(int fd, int mode, ByteRange range) {
  return fallocate(fd, mode, static_cast<off_t>(range.start.value()),
                   static_cast<off_t>(range.size.value())) == 0
             ? 0
             : errno;
}

int PunchHole(int fd, int mode, ByteRange range) {
  int error = 0;
  do {
    error = FallocateOnce(fd, mode, range);
  } while (error == EINTR);
  return error;
}

}  // namespace

int FallocateInChunks(int fd, int mode, ByteRange range, ByteSize page_size) {
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) return PunchHole(fd, mode, range);
  // Both are powers of two, so the greater one is a multiple of the other.
  const ByteSize longest = std::max(kChunk, page_size);
  ByteSize most = longest;
  ByteRange rest = range;
  int error = 0;
  do {
    const ByteRange chunk = {rest.start, std::min(rest.size, most)};
    error = FallocateOnce(fd, mode, chunk);
    if (error == EINTR) {
      // The shortest piece is one page, which no signal interrupts: each call makes progress,
      // however many signals come.
      most = std::max(page_size, ByteSize(most.value() / 2));
    } else {
      most = std::min(longest, ByteSize(most.value() * 2));
      rest = {chunk.end(), ByteSize(rest.size.value() - chunk.size.value())};
    }
  } while ((error == 0 && rest.size > ByteSize(0)) || error == EINTR);
  return error;
}

}  // namespace gmem::internal
