// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_REQUEST_H_
#define GMEM_TOOLS_VHOST_BLOCK_REQUEST_H_

#include <linux/virtio_blk.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "block_image.h"
#include "block_io.h"
#include "gmem/vhost/chain.h"

// The disk as its driver has set it up.
struct BlockDisk {
  // Other queues must be served, too. So there are limits for one request: its bytes, and its
  // ranges to discard and to fill with zeroes. The device may have to write zeroes, so their limit
  // is lower than that of holes.
  static constexpr uint64_t kMaxTransfer = 64 << 20;
  // The limit for a driver that doesn't take SIZE_MAX and SEG_MAX. Firmware has such drivers, which
  // read a whole file at once; EDK2's driver stays below this limit.
  static constexpr uint64_t kMaxUnboundedTransfer = 1 << 30;
  static constexpr uint32_t kMaxDiscardRanges = 32;
  static constexpr uint32_t kMaxZeroedRanges = 1;
  static constexpr uint32_t kMaxDiscardSectors = kMaxTransfer / BlockImage::kSectorSize;

  const BlockImage* image = nullptr;
  // For GET_ID, filled with zeroes.
  std::array<char, VIRTIO_BLK_ID_BYTES> serial = {};
  // Does the driver know the limits of one request?
  bool has_limits = false;
  // Must a write be stable when it is completed?
  bool is_writethrough = false;
  // May pages of guest memory be missing until the front-end brings them?
  bool has_postcopy = false;
};

// A request of the driver, which is carried out in operations, one after the other. Memory stays,
// so that the next request in the same object needs no allocation.
class BlockRequest {
 public:
  gmem::vhost::Chain& chain() { return chain_; }

  // Begins with the request in chain(), which has at least one byte to write.
  void Begin(const BlockDisk& disk);
  // Is there an operation to carry out? Otherwise, status() is the result.
  bool has_operation() const { return stage_ != Stage::kDone; }
  // The next operation, whose pieces this object keeps.
  BlockIo::Operation operation();
  // The operation has ended with @result.
  void Finish(int result);
  uint8_t status() const { return status_; }

 private:
  enum class Stage : uint8_t { kTransfer, kAllocate, kZero, kFlush, kDone };

  void End(uint8_t status) {
    status_ = status;
    stage_ = Stage::kDone;
  }
  void BeginTransfer(uint64_t sector);
  void BeginRanges();
  // Returns the status that the request deserves for this range.
  uint8_t Check(const virtio_blk_discard_write_zeroes& range) const;
  void GetId();
  // Goes on with the next range.
  void NextRange();
  // All is written: makes that stable if the driver expects it.
  void Settle();
  // Touches the memory of the last operation. Returns when all of it is there.
  void Touch() const;
  void Gather(absl::Span<const gmem::vhost::GuestSpan> spans, uint64_t offset, uint64_t size);
  void GatherZeroes(uint64_t size);

  gmem::vhost::Chain chain_;
  BlockDisk disk_;
  uint32_t type_ = 0;
  Stage stage_ = Stage::kDone;
  uint8_t status_ = VIRTIO_BLK_S_OK;
  // The place on the disk of a transfer or a range, its bytes, and those that are done.
  uint64_t offset_ = 0;
  uint64_t size_ = 0;
  uint64_t done_ = 0;
  bool has_touched_ = false;
  std::vector<virtio_blk_discard_write_zeroes> ranges_;
  size_t next_range_ = 0;
  std::vector<iovec> pieces_;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_REQUEST_H_
