// SPDX-License-Identifier: MIT OR Apache-2.0
#include "image_disk.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/program.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/virtqueue.h"

namespace {

using gmem::vhost::Chain;
using gmem::vhost::GuestSpan;

constexpr uint64_t kSectorSize = 512;
// Other queues and the front-end must be served, too. So there are limits for one request, and for
// the requests of one call: in bytes and in numbers. The device may have to write zeroes, so their
// limit is lower than that of holes.
constexpr uint64_t kMaxTransfer = 64 << 20;
// The limit for a driver that doesn't take SIZE_MAX and SEG_MAX. Firmware has such drivers, which
// read a whole file at once; EDK2's driver stays below this limit.
constexpr uint64_t kMaxUnboundedTransfer = 1 << 30;
constexpr uint32_t kMaxDiscardRanges = 32;
constexpr uint32_t kMaxZeroedRanges = 1;
constexpr uint32_t kMaxDiscardSectors = kMaxTransfer / kSectorSize;
constexpr int kBatch = 64;
// Data descriptors of one request: with header and status, they are the limit of a chain.
constexpr uint32_t kMaxSegments = 126;
constexpr uint32_t kMaxSegmentSize = 512 << 10;
static_assert(uint64_t{kMaxSegments} * kMaxSegmentSize <= kMaxTransfer);
constexpr char kId[VIRTIO_BLK_ID_BYTES] = "minivmm";

constexpr uint64_t Feature(unsigned bit) { return uint64_t{1} << bit; }

// The arguments of preadv() and pwritev().
class IoVector {
 public:
  // Takes up to @size bytes from @offset on.
  IoVector(absl::Span<const GuestSpan> spans, uint64_t offset, uint64_t size) {
    for (const GuestSpan span : spans) {
      if (size == 0 || count_ == entries_.size()) break;
      if (offset >= span.size()) {
        offset -= span.size();
        continue;
      }
      const size_t piece = std::min<uint64_t>(span.size() - offset, size);
      entries_[count_++] = {.iov_base = span.data() + offset, .iov_len = piece};
      size -= piece;
      offset = 0;
    }
  }
  const iovec* data() const { return entries_.data(); }
  int count() const { return static_cast<int>(count_); }

 private:
  std::array<iovec, 256> entries_;
  size_t count_ = 0;
};

}  // namespace

absl::StatusOr<ImageDisk> ImageDisk::Open(const std::string& path, const Options& options) {
  gmem::UniqueFd file(open(path.c_str(), (options.is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("can't open ", path));
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is neither a file with contents nor a block device"));
  }
  const off_t end = lseek(file.get(), 0, SEEK_END);
  if (end < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, " has no size"));
  const uint64_t size = static_cast<uint64_t>(end) / kSectorSize * kSectorSize;
  if (size == 0) {
    return absl::FailedPreconditionError(absl::StrCat(path, " has less than a sector (512 bytes)"));
  }
  return ImageDisk(std::move(file), size, options);
}

ImageDisk::ImageDisk(ImageDisk&& other) noexcept
    : file_(std::move(other.file_)), size_(other.size_), options_(other.options_) {}

uint64_t ImageDisk::features() const {
  const uint64_t features = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX) |
                            Feature(VIRTIO_BLK_F_BLK_SIZE) | Feature(VIRTIO_BLK_F_FLUSH) |
                            Feature(VIRTIO_BLK_F_MQ);
  return features | (options_.is_read_only
                         ? Feature(VIRTIO_BLK_F_RO)
                         : Feature(VIRTIO_BLK_F_DISCARD) | Feature(VIRTIO_BLK_F_WRITE_ZEROES));
}

absl::Status ImageDisk::ReadConfig(uint32_t offset, absl::Span<uint8_t> to) {
  virtio_blk_config config = {};
  config.capacity = size_ / kSectorSize;
  config.size_max = kMaxSegmentSize;
  config.seg_max = kMaxSegments;
  config.blk_size = kSectorSize;
  config.num_queues = options_.nr_queues;
  config.max_discard_sectors = config.max_write_zeroes_sectors = kMaxDiscardSectors;
  config.max_discard_seg = kMaxDiscardRanges;
  config.max_write_zeroes_seg = kMaxZeroedRanges;
  config.discard_sector_alignment = 1;
  config.write_zeroes_may_unmap = 1;
  std::memcpy(to.data(), reinterpret_cast<const uint8_t*>(&config) + offset, to.size());
  return absl::OkStatus();
}

absl::Status ImageDisk::Serve(gmem::vhost::Virtqueue& queue) {
  uint64_t nr_bytes = 0;
  for (int i = 0; i < kBatch && nr_bytes < kMaxTransfer; i++) {
    if (queue.Pop(chain_) != gmem::vhost::Popped::kChain) break;
    // Without a place for the status there is nobody to tell.
    if (chain_.writable_size() == 0) {
      return absl::DataLossError("a request without a byte for its status");
    }
    nr_bytes += chain_.readable_size() + chain_.writable_size();
    const uint8_t status = Do(chain_);
    chain_.Write(chain_.writable_size() - 1, &status, 1);
    // Report all bytes as written: the status is the last byte, and the dirty log must have it.
    queue.Push(chain_, chain_.writable_size());
  }
  return queue.status();
}

void ImageDisk::SetFeatures(uint64_t features) {
  constexpr uint64_t kLimits = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX);
  has_flush_ = (features & Feature(VIRTIO_BLK_F_FLUSH)) != 0;
  has_limits_ = (features & kLimits) == kLimits;
}

void ImageDisk::QueueFailed(uint16_t index, const absl::Status& why) {
  tools::PrintError(kId,
                    absl::StrCat("virtqueue ", index, " is no longer served: ", why.message()));
}

uint8_t ImageDisk::Do(const Chain& chain) {
  virtio_blk_outhdr header;
  if (!chain.ReadStruct(0, header)) return VIRTIO_BLK_S_IOERR;
  switch (header.type) {
    case VIRTIO_BLK_T_IN:
      return Transfer(chain, header.sector, /*is_write=*/false);
    case VIRTIO_BLK_T_OUT:
      return Settle(Transfer(chain, header.sector, /*is_write=*/true));
    case VIRTIO_BLK_T_FLUSH:
      return Flush();
    case VIRTIO_BLK_T_GET_ID:
      return GetId(chain);
    case VIRTIO_BLK_T_DISCARD:
      return Settle(Discard(chain, /*is_zeroing=*/false));
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return Settle(Discard(chain, /*is_zeroing=*/true));
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

bool ImageDisk::IsInFile(uint64_t sector, uint64_t size) const {
  return sector <= size_ / kSectorSize && size <= size_ - sector * kSectorSize;
}

uint8_t ImageDisk::Transfer(const Chain& chain, uint64_t sector, bool is_write) {
  // The sizes without header and status, which every request has.
  const uint64_t first = is_write ? sizeof(virtio_blk_outhdr) : 0;
  const uint64_t size = is_write ? chain.readable_size() - first : chain.writable_size() - 1;
  if (size % kSectorSize != 0 || size > (has_limits_ ? kMaxTransfer : kMaxUnboundedTransfer) ||
      !IsInFile(sector, size) || (is_write && options_.is_read_only)) {
    return VIRTIO_BLK_S_IOERR;
  }
  uint64_t done = 0;
  while (done < size) {
    const IoVector vector(is_write ? chain.readable() : chain.writable(), first + done,
                          size - done);
    const auto at = static_cast<off_t>(sector * kSectorSize + done);
    const ssize_t moved = is_write ? pwritev(file_.get(), vector.data(), vector.count(), at)
                                   : preadv(file_.get(), vector.data(), vector.count(), at);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return VIRTIO_BLK_S_IOERR;
    done += static_cast<uint64_t>(moved);
  }
  return VIRTIO_BLK_S_OK;
}

uint8_t ImageDisk::Settle(uint8_t status) const {
  return status == VIRTIO_BLK_S_OK && !has_flush_ ? Flush() : status;
}

uint8_t ImageDisk::Flush() const {
  if (fdatasync(file_.get()) != 0) return VIRTIO_BLK_S_IOERR;
  return VIRTIO_BLK_S_OK;
}

uint8_t ImageDisk::GetId(const Chain& chain) const {
  if (chain.writable_size() < sizeof(kId) + 1) return VIRTIO_BLK_S_IOERR;
  chain.Write(0, kId, sizeof(kId));
  return VIRTIO_BLK_S_OK;
}

uint8_t ImageDisk::Discard(const Chain& chain, bool is_zeroing) {
  const uint64_t size = chain.readable_size() - sizeof(virtio_blk_outhdr);
  virtio_blk_discard_write_zeroes range;
  if (size == 0 || size % sizeof(range) != 0 ||
      size / sizeof(range) > (is_zeroing ? kMaxZeroedRanges : kMaxDiscardRanges) ||
      options_.is_read_only) {
    return VIRTIO_BLK_S_IOERR;
  }
  for (uint64_t done = 0; done < size; done += sizeof(range)) {
    if (!chain.ReadStruct(sizeof(virtio_blk_outhdr) + done, range)) {
      return VIRTIO_BLK_S_IOERR;
    }
    const uint8_t status = DiscardRange(range, is_zeroing);
    if (status != VIRTIO_BLK_S_OK) return status;
  }
  return VIRTIO_BLK_S_OK;
}

uint8_t ImageDisk::DiscardRange(const virtio_blk_discard_write_zeroes& range, bool is_zeroing) {
  const uint32_t known = is_zeroing ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
  if ((range.flags & ~known) != 0) return VIRTIO_BLK_S_UNSUPP;
  const uint64_t size = range.num_sectors * kSectorSize;
  if (range.num_sectors > kMaxDiscardSectors || !IsInFile(range.sector, size)) {
    return VIRTIO_BLK_S_IOERR;
  }
  if (size == 0) return VIRTIO_BLK_S_OK;
  const bool may_unmap = !is_zeroing || (range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) != 0;
  const auto at = static_cast<off_t>(range.sector * kSectorSize);
  const int mode = FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  if (fallocate(file_.get(), mode, at, static_cast<off_t>(size)) == 0) return VIRTIO_BLK_S_OK;
  // A discard is a hint. Zeroes must be there, even if the file system has no such call.
  if (!is_zeroing) return VIRTIO_BLK_S_OK;
  constexpr size_t kPiece = 65536;
  const std::array<uint8_t, kPiece> zeroes = {};
  for (uint64_t done = 0; done < size;) {
    const ssize_t written =
        pwrite(file_.get(), zeroes.data(), std::min<uint64_t>(kPiece, size - done),
               at + static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return VIRTIO_BLK_S_IOERR;
    done += static_cast<uint64_t>(written);
  }
  return VIRTIO_BLK_S_OK;
}
