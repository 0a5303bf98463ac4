// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_IMAGE_H_
#define GMEM_TOOLS_VHOST_BLOCK_IMAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

// The contents of a disk: a file, or a block device of the host.
class BlockImage {
 public:
  static constexpr uint64_t kSectorSize = 512;

  // The blocks of the file system or the device below. Sizes are in bytes.
  struct Topology {
    uint32_t logical_block = kSectorSize;
    uint32_t physical_block = kSectorSize;
    // Of the first physical block that begins after the disk does.
    uint32_t alignment_offset = 0;
    // The smallest and the best size of a request; 0 if there is no best one.
    uint32_t min_io = kSectorSize;
    uint32_t optimal_io = 0;
  };

  static absl::StatusOr<std::unique_ptr<BlockImage>> Open(const std::string& path,
                                                          bool is_read_only);

  int fd() const { return file_.get(); }
  bool is_read_only() const { return is_read_only_; }
  // In bytes; whole sectors.
  uint64_t size() const { return size_; }
  bool Contains(uint64_t sector, uint64_t size) const {
    return sector <= size_ / kSectorSize && size <= size_ - sector * kSectorSize;
  }
  const Topology& topology() const { return topology_; }

  // Looks at the size of the file again. True if it has grown; the disk never gets smaller.
  bool Grow();

  // Keeps other processes that lock it from using the image: a writer, any; a reader, writers.
  // Waits for them up to @patience, and then fails with FailedPrecondition. Does nothing if it is
  // locked.
  absl::Status Lock(absl::Duration patience);
  void Unlock();

 private:
  BlockImage(gmem::UniqueFd file, std::string path, bool is_read_only)
      : file_(std::move(file)), path_(std::move(path)), is_read_only_(is_read_only) {}

  gmem::UniqueFd file_;
  std::string path_;
  bool is_read_only_;
  uint64_t size_ = 0;
  Topology topology_;
  bool is_locked_ = false;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_IMAGE_H_
