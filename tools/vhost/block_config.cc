// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_config.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "block_image.h"
#include "block_request.h"

namespace {

// Data descriptors of one request: with header and status, they are the limit of a chain.
constexpr uint32_t kMaxSegments = 126;
constexpr uint32_t kMaxSegmentSize = 512 << 10;
static_assert(uint64_t{kMaxSegments} * kMaxSegmentSize <= BlockDisk::kMaxTransfer);

constexpr uint64_t Feature(unsigned bit) { return uint64_t{1} << bit; }

}  // namespace

BlockConfig::BlockConfig(const BlockImage* image, const Options& options) : options_(options) {
  disk_.image = image;
  disk_.has_postcopy = options_.has_postcopy;
  std::copy_n(options_.serial.begin(), std::min(options_.serial.size(), disk_.serial.size()),
              disk_.serial.begin());
}

uint64_t BlockConfig::features() const {
  const uint64_t features = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX) |
                            Feature(VIRTIO_BLK_F_BLK_SIZE) | Feature(VIRTIO_BLK_F_TOPOLOGY) |
                            Feature(VIRTIO_BLK_F_FLUSH) | Feature(VIRTIO_BLK_F_MQ);
  if (disk_.image->is_read_only()) return features | Feature(VIRTIO_BLK_F_RO);
  return features | Feature(VIRTIO_BLK_F_DISCARD) | Feature(VIRTIO_BLK_F_WRITE_ZEROES) |
         (options_.is_writable ? Feature(VIRTIO_BLK_F_CONFIG_WCE) : 0);
}

void BlockConfig::SetFeatures(uint64_t features) {
  constexpr uint64_t kLimits = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX);
  disk_.has_limits = (features & kLimits) == kLimits;
  SetCache((features & Feature(VIRTIO_BLK_F_FLUSH)) != 0, is_writeback_);
}

void BlockConfig::SetCache(bool has_flush, bool is_writeback) {
  has_flush_ = has_flush;
  is_writeback_ = is_writeback;
  disk_.is_writethrough = !has_flush || !is_writeback;
}

void BlockConfig::Read(uint32_t offset, absl::Span<uint8_t> to) const {
  const BlockImage::Topology& topology = disk_.image->topology();
  const uint32_t block = topology.logical_block;
  virtio_blk_config config = {};
  config.capacity = disk_.image->size() / BlockImage::kSectorSize;
  config.size_max = kMaxSegmentSize;
  config.seg_max = kMaxSegments;
  config.blk_size = block;
  config.physical_block_exp =
      static_cast<uint8_t>(std::bit_width(std::max(topology.physical_block / block, 1U)) - 1);
  config.alignment_offset = static_cast<uint8_t>(topology.alignment_offset / block);
  config.min_io_size = static_cast<uint16_t>(std::min(topology.min_io / block, 0xffffU));
  config.opt_io_size = topology.optimal_io / block;
  config.wce = disk_.is_writethrough ? 0 : 1;
  config.num_queues = options_.nr_queues;
  config.max_discard_sectors = config.max_write_zeroes_sectors = BlockDisk::kMaxDiscardSectors;
  config.max_discard_seg = BlockDisk::kMaxDiscardRanges;
  config.max_write_zeroes_seg = BlockDisk::kMaxZeroedRanges;
  config.discard_sector_alignment = block / static_cast<uint32_t>(BlockImage::kSectorSize);
  config.write_zeroes_may_unmap = 1;
  std::memcpy(to.data(), reinterpret_cast<const uint8_t*>(&config) + offset, to.size());
}

absl::Status BlockConfig::Write(uint32_t offset, absl::Span<const uint8_t> from,
                                bool is_migration) {
  constexpr uint32_t kCache = offsetof(virtio_blk_config, wce);
  const bool has_cache = offset <= kCache && kCache - offset < from.size();
  // A migration brings all of the source's configuration.
  if (!has_cache || (!is_migration && from.size() != 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a driver may write the byte ", kCache, " alone of the configuration"));
  }
  const uint8_t value = from[kCache - offset];
  if (value > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the cache's mode is ", value, ": 0 is write-through, 1 is write-back"));
  }
  SetCache(has_flush_, value != 0);
  return absl::OkStatus();
}
