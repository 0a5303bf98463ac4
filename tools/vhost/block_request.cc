// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_request.h"

#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/types/span.h"
#include "block_image.h"
#include "block_io.h"
#include "gmem/vhost/chain.h"

namespace {

using gmem::vhost::GuestSpan;

constexpr size_t kMaxPieces = IOV_MAX;
constexpr size_t kZeroesSize = 65536;
static_assert(kZeroesSize * kMaxPieces >= BlockDisk::kMaxTransfer);

}  // namespace

void BlockRequest::Begin(const BlockDisk& disk) {
  disk_ = disk;
  status_ = VIRTIO_BLK_S_OK;
  done_ = size_ = 0;
  has_touched_ = false;
  virtio_blk_outhdr header;
  if (!chain_.ReadStruct(0, header)) {
    End(VIRTIO_BLK_S_IOERR);
    return;
  }
  type_ = header.type;
  switch (type_) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
      BeginTransfer(header.sector);
      break;
    case VIRTIO_BLK_T_FLUSH:
      stage_ = Stage::kFlush;
      break;
    case VIRTIO_BLK_T_GET_ID:
      GetId();
      break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
      BeginRanges();
      break;
    default:
      End(VIRTIO_BLK_S_UNSUPP);
  }
}

void BlockRequest::BeginTransfer(uint64_t sector) {
  // The sizes without header and status, which every request has.
  const bool is_write = type_ == VIRTIO_BLK_T_OUT;
  size_ =
      is_write ? chain_.readable_size() - sizeof(virtio_blk_outhdr) : chain_.writable_size() - 1;
  const uint64_t limit =
      disk_.has_limits ? BlockDisk::kMaxTransfer : BlockDisk::kMaxUnboundedTransfer;
  if (size_ % BlockImage::kSectorSize != 0 || size_ > limit ||
      !disk_.image->Contains(sector, size_) || (is_write && disk_.image->is_read_only())) {
    End(VIRTIO_BLK_S_IOERR);
    return;
  }
  offset_ = sector * BlockImage::kSectorSize;
  stage_ = Stage::kTransfer;
  if (size_ == 0) Settle();
}

void BlockRequest::GetId() {
  if (chain_.writable_size() < disk_.serial.size() + 1) {
    End(VIRTIO_BLK_S_IOERR);
    return;
  }
  chain_.Write(0, disk_.serial.data(), disk_.serial.size());
  End(VIRTIO_BLK_S_OK);
}

void BlockRequest::BeginRanges() {
  const uint64_t size = chain_.readable_size() - sizeof(virtio_blk_outhdr);
  const uint64_t count = size / sizeof(virtio_blk_discard_write_zeroes);
  const uint32_t limit =
      type_ == VIRTIO_BLK_T_DISCARD ? BlockDisk::kMaxDiscardRanges : BlockDisk::kMaxZeroedRanges;
  if (count == 0 || size % sizeof(virtio_blk_discard_write_zeroes) != 0 || count > limit ||
      disk_.image->is_read_only()) {
    End(VIRTIO_BLK_S_IOERR);
    return;
  }
  ranges_.resize(count);
  chain_.Read(sizeof(virtio_blk_outhdr), ranges_.data(), size);
  // All of them come before the first one begins, so that a refused request has no effect.
  for (const virtio_blk_discard_write_zeroes& range : ranges_) {
    if (const uint8_t status = Check(range); status != VIRTIO_BLK_S_OK) {
      End(status);
      return;
    }
  }
  next_range_ = 0;
  NextRange();
}

uint8_t BlockRequest::Check(const virtio_blk_discard_write_zeroes& range) const {
  const uint32_t known =
      type_ == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
  if ((range.flags & ~known) != 0) return VIRTIO_BLK_S_UNSUPP;
  if (range.num_sectors > BlockDisk::kMaxDiscardSectors ||
      !disk_.image->Contains(range.sector, range.num_sectors * BlockImage::kSectorSize)) {
    return VIRTIO_BLK_S_IOERR;
  }
  return VIRTIO_BLK_S_OK;
}

void BlockRequest::NextRange() {
  while (next_range_ < ranges_.size() && ranges_[next_range_].num_sectors == 0) next_range_++;
  if (next_range_ == ranges_.size()) {
    Settle();
    return;
  }
  offset_ = ranges_[next_range_].sector * BlockImage::kSectorSize;
  size_ = ranges_[next_range_].num_sectors * BlockImage::kSectorSize;
  done_ = 0;
  stage_ = Stage::kAllocate;
}

void BlockRequest::Settle() {
  const bool has_written = type_ != VIRTIO_BLK_T_IN;
  stage_ = has_written && disk_.is_writethrough ? Stage::kFlush : Stage::kDone;
}

BlockIo::Operation BlockRequest::operation() {
  BlockIo::Operation operation = {.kind = BlockIo::Kind::kFlush,
                                  .offset = offset_ + done_,
                                  .size = size_ - done_,
                                  .pieces = {}};
  if (stage_ == Stage::kTransfer) {
    const bool is_write = type_ == VIRTIO_BLK_T_OUT;
    operation.kind = is_write ? BlockIo::Kind::kWrite : BlockIo::Kind::kRead;
    Gather(is_write ? chain_.readable() : chain_.writable(),
           done_ + (is_write ? sizeof(virtio_blk_outhdr) : 0), size_ - done_);
    operation.pieces = pieces_;
  } else if (stage_ == Stage::kAllocate) {
    operation.kind = BlockIo::Kind::kAllocate;
    const bool may_unmap = type_ == VIRTIO_BLK_T_DISCARD ||
                           (ranges_[next_range_].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
    operation.mode =
        FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  } else if (stage_ == Stage::kZero) {
    operation.kind = BlockIo::Kind::kWrite;
    GatherZeroes(size_ - done_);
    operation.pieces = pieces_;
  }
  return operation;
}

void BlockRequest::Finish(int result) {
  if (result == -EINTR || result == -EAGAIN) return;
  // Without privileges, a userfaultfd serves the faults of programs, but not those of the kernel.
  if (result == -EFAULT && disk_.has_postcopy && !std::exchange(has_touched_, true)) {
    Touch();
    return;
  }
  switch (stage_) {
    case Stage::kTransfer:
    case Stage::kZero:
      // 0: the file is shorter than the disk.
      if (result <= 0) {
        End(VIRTIO_BLK_S_IOERR);
        return;
      }
      done_ += static_cast<uint64_t>(result);
      has_touched_ = false;
      if (done_ < size_) return;
      if (stage_ == Stage::kTransfer) {
        Settle();
        return;
      }
      break;
    case Stage::kAllocate:
      // A discard is a hint. Zeroes must be there, even if the file system has no such call.
      if (result < 0 && type_ == VIRTIO_BLK_T_WRITE_ZEROES) {
        stage_ = Stage::kZero;
        return;
      }
      break;
    case Stage::kFlush:
    case Stage::kDone:
      End(result < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
      return;
  }
  next_range_++;
  NextRange();
}

void BlockRequest::Touch() const {
  constexpr size_t kPage = 4096;
  for (const iovec& piece : pieces_) {
    const auto* const begin = static_cast<const volatile uint8_t*>(piece.iov_base);
    for (size_t at = 0; at < piece.iov_len; at += kPage) begin[at];
    if (piece.iov_len > 0) begin[piece.iov_len - 1];
  }
}

void BlockRequest::Gather(absl::Span<const GuestSpan> spans, uint64_t offset, uint64_t size) {
  pieces_.clear();
  for (const GuestSpan span : spans) {
    if (size == 0 || pieces_.size() == kMaxPieces) break;
    if (offset >= span.size()) {
      offset -= span.size();
      continue;
    }
    const uint64_t piece = std::min<uint64_t>(span.size() - offset, size);
    pieces_.push_back({.iov_base = span.data() + offset, .iov_len = piece});
    size -= piece;
    offset = 0;
  }
}

void BlockRequest::GatherZeroes(uint64_t size) {
  // The kernel only reads them.
  static std::array<uint8_t, kZeroesSize> zeroes = {};
  pieces_.clear();
  while (size > 0) {
    const uint64_t piece = std::min<uint64_t>(size, kZeroesSize);
    pieces_.push_back({.iov_base = zeroes.data(), .iov_len = piece});
    size -= piece;
  }
}
