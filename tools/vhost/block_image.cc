// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

namespace {

// The size of the file in whole sectors.
absl::StatusOr<uint64_t> SizeOf(int fd) {
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end < 0) return absl::ErrnoToStatus(errno, "it has no size");
  return static_cast<uint64_t>(end) / BlockImage::kSectorSize * BlockImage::kSectorSize;
}

BlockImage::Topology TopologyOf(int fd, const struct stat& info) {
  BlockImage::Topology topology;
  if (!S_ISBLK(info.st_mode)) {
    // File systems on a network name up to some MiB, which no sector of a disk has.
    constexpr uint32_t kLargest = 4096;
    topology.physical_block = topology.min_io =
        std::min(static_cast<uint32_t>(info.st_blksize), kLargest);
    topology.optimal_io = static_cast<uint32_t>(info.st_blksize);
    return topology;
  }
  int logical_block = 0;
  unsigned physical_block = 0;
  unsigned min_io = 0;
  unsigned optimal_io = 0;
  int offset = 0;
  if (ioctl(fd, BLKSSZGET, &logical_block) == 0 && ioctl(fd, BLKPBSZGET, &physical_block) == 0 &&
      ioctl(fd, BLKIOMIN, &min_io) == 0 && ioctl(fd, BLKIOOPT, &optimal_io) == 0) {
    topology.logical_block = static_cast<uint32_t>(logical_block);
    topology.physical_block = physical_block;
    topology.min_io = min_io;
    topology.optimal_io = optimal_io;
  }
  if (ioctl(fd, BLKALIGNOFF, &offset) == 0 && offset > 0) {
    topology.alignment_offset = static_cast<uint32_t>(offset);
  }
  return topology;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockImage>> BlockImage::Open(const std::string& path,
                                                             bool is_read_only) {
  gmem::UniqueFd file(open(path.c_str(), (is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("can't open ", path));
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is neither a file with contents nor a block device"));
  }
  const absl::StatusOr<uint64_t> size = SizeOf(file.get());
  if (!size.ok()) {
    return absl::Status(size.status().code(), absl::StrCat(path, ": ", size.status().message()));
  }
  if (*size == 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, " has less than a sector (512 bytes)"));
  }
  std::unique_ptr<BlockImage> image(new BlockImage(std::move(file), path, is_read_only));
  image->size_ = *size;
  image->topology_ = TopologyOf(image->fd(), info);
  return image;
}

bool BlockImage::Grow() {
  const absl::StatusOr<uint64_t> size = SizeOf(fd());
  if (!size.ok() || *size <= size_) return false;
  size_ = *size;
  return true;
}

absl::Status BlockImage::Lock(absl::Duration patience) {
  if (is_locked_) return absl::OkStatus();
  // The lock belongs to the open file, so that another one of this process doesn't end it.
  struct flock lock = {};
  lock.l_type = is_read_only_ ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  const absl::Time end = absl::Now() + patience;
  while (fcntl(fd(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("can't lock ", path_, " (--lock=off leaves the lock out)"));
    }
    if (absl::Now() >= end) {
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " is in use by another process: ",
                       is_read_only_ ? "a disk that somebody writes has no readers"
                                     : "a disk has one writer, and no readers meanwhile"));
    }
    absl::SleepFor(absl::Milliseconds(50));
  }
  is_locked_ = true;
  return absl::OkStatus();
}

void BlockImage::Unlock() {
  if (!std::exchange(is_locked_, false)) return;
  struct flock lock = {};
  lock.l_type = F_UNLCK;
  lock.l_whence = SEEK_SET;
  fcntl(fd(), F_OFD_SETLK, &lock);
}
