// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_device.h"

#include <linux/virtio_blk.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/program.h"
#include "block_image.h"
#include "block_io.h"
#include "block_queue.h"
#include "block_request.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace {

using gmem::vhost::Backend;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::Virtqueue;

constexpr absl::string_view kName = "gmem-vhost-blk";
// Data descriptors of one request: with header and status, they are the limit of a chain.
constexpr uint32_t kMaxSegments = 126;
constexpr uint32_t kMaxSegmentSize = 512 << 10;
static_assert(uint64_t{kMaxSegments} * kMaxSegmentSize <= BlockDisk::kMaxTransfer);

constexpr uint64_t Feature(unsigned bit) { return uint64_t{1} << bit; }

// A process that was killed keeps its lock until the operations that it has begun have ended. The
// one that is started in its place must not begin before that.
absl::Status LockSoon(BlockImage& image) {
  constexpr absl::Duration kPatience = absl::Seconds(1);
  const absl::Time end = absl::Now() + kPatience;
  while (!image.TryLock() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(50));
  return image.Lock();
}

}  // namespace

BlockDevice::BlockDevice(std::unique_ptr<BlockImage> image, gmem::UniqueFd growth,
                         const Options& options)
    : image_(std::move(image)), options_(options), growth_(std::move(growth)) {
  disk_.image = image_.get();
  disk_.has_postcopy = options_.has_postcopy;
  std::copy_n(options_.serial.begin(), std::min(options_.serial.size(), disk_.serial.size()),
              disk_.serial.begin());
}

absl::StatusOr<std::unique_ptr<BlockDevice>> BlockDevice::Create(std::unique_ptr<BlockImage> image,
                                                                 gmem::UniqueFd growth,
                                                                 const Options& options) {
  std::unique_ptr<BlockDevice> device(
      new BlockDevice(std::move(image), std::move(growth), options));
  if (options.locking == Locking::kFromStart) {
    if (absl::Status status = LockSoon(*device->image_); !status.ok()) return status;
  }
  bool has_rings = true;
  for (uint16_t i = 0; i < options.nr_queues; i++) {
    absl::StatusOr<std::unique_ptr<BlockIo>> io =
        BlockIo::Create(device->image_->fd(), BlockQueue::kMaxRequests);
    // Old kernels have no rings or not enough memory for them, and containers refuse them.
    if (!io.ok()) {
      if (std::exchange(has_rings, false)) {
        tools::PrintError(kName, absl::StrCat("virtqueue ", i, ": ", io.status().message(),
                                              ": requests are carried out one after the other"));
      }
      io = BlockIo::CreateSynchronous(device->image_->fd());
    }
    device->queues_.push_back(std::make_unique<Queue>(*std::move(io)));
  }
  return device;
}

uint64_t BlockDevice::features() const {
  const uint64_t features = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX) |
                            Feature(VIRTIO_BLK_F_BLK_SIZE) | Feature(VIRTIO_BLK_F_TOPOLOGY) |
                            Feature(VIRTIO_BLK_F_FLUSH) | Feature(VIRTIO_BLK_F_MQ);
  return features | (image_->is_read_only()
                         ? Feature(VIRTIO_BLK_F_RO)
                         : Feature(VIRTIO_BLK_F_CONFIG_WCE) | Feature(VIRTIO_BLK_F_DISCARD) |
                               Feature(VIRTIO_BLK_F_WRITE_ZEROES));
}

uint64_t BlockDevice::protocol_features() const {
  return options_.has_postcopy ? gmem::vhost::Bit(ProtocolFeature::kPagefault) : 0;
}

void BlockDevice::SetFeatures(uint64_t features) {
  constexpr uint64_t kLimits = Feature(VIRTIO_BLK_F_SIZE_MAX) | Feature(VIRTIO_BLK_F_SEG_MAX);
  disk_.has_limits = (features & kLimits) == kLimits;
  SetCache((features & Feature(VIRTIO_BLK_F_FLUSH)) != 0, is_writeback_);
}

void BlockDevice::SetCache(bool has_flush, bool is_writeback) {
  has_flush_ = has_flush;
  is_writeback_ = is_writeback;
  disk_.is_writethrough = !has_flush || !is_writeback;
}

absl::Status BlockDevice::ReadConfig(uint32_t offset, absl::Span<uint8_t> to) {
  const BlockImage::Topology& topology = image_->topology();
  const uint32_t block = topology.logical_block;
  virtio_blk_config config = {};
  config.capacity = image_->size() / BlockImage::kSectorSize;
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
  return absl::OkStatus();
}

absl::Status BlockDevice::WriteConfig(uint32_t offset, absl::Span<const uint8_t> from,
                                      uint32_t flags) {
  constexpr uint32_t kCache = offsetof(virtio_blk_config, wce);
  const bool has_cache = offset <= kCache && kCache - offset < from.size();
  // A migration brings all of the source's configuration.
  if (!has_cache || (flags == gmem::vhost::kConfigWritable && from.size() != 1)) {
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

void BlockDevice::Connected(Backend& backend) {
  backend_ = &backend;
  // The image may have grown since the last session.
  image_->Grow();
  if (!growth_) return;
  const absl::Status status = backend.Watch(0, growth_.get(), [this] { TakeGrowth(); });
  if (!status.ok()) tools::PrintError(kName, status.message());
}

void BlockDevice::Disconnected() {
  backend_ = nullptr;
  // No virtqueue has worked if none has started, and the lock of the program's start still stands.
  image_->Unlock();
  // The cache's mode stays: a front-end that comes back doesn't repeat what the driver has chosen.
}

void BlockDevice::TakeGrowth() {
  signalfd_siginfo info;
  if (read(growth_.get(), &info, sizeof(info)) < 0) return;
  backend_->RunInSession([this] {
    if (!image_->Grow() || !backend_->has_channel()) return;
    backend_->ConfigChanged([](const absl::Status& status) {
      if (status.ok()) return;
      tools::PrintError(kName, absl::StrCat("can't tell the front-end that the disk has grown: ",
                                            status.message()));
    });
  });
}

void BlockDevice::QueueStarted(Backend& backend, Virtqueue& queue) {
  Queue& mine = *queues_[queue.index()];
  mine.calls.AssertAlone();
  nr_working_++;
  mine.is_stopping = false;
  mine.failure = options_.locking == Locking::kNever ? absl::OkStatus() : LockSoon(*image_);
  const int fd = mine.requests.fd();
  if (!mine.failure.ok() || fd < 0) return;
  mine.failure =
      backend.Watch(queue.index(), fd, [this, index = queue.index()] { Complete(index); });
}

absl::Status BlockDevice::HandleQueue(Backend& /*backend*/, Virtqueue& queue) {
  Queue& mine = *queues_[queue.index()];
  mine.calls.AssertIn(queue);
  if (!mine.failure.ok()) return mine.failure;
  return mine.requests.Serve(queue, disk_);
}

void BlockDevice::Complete(uint16_t index) {
  Virtqueue* const queue = backend_->queue(index);
  if (queue == nullptr) return;
  Queue& mine = *queues_[index];
  mine.calls.AssertIn(*queue);
  mine.requests.Complete(*queue);
  if (!mine.requests.wants_more() || mine.is_stopping || !mine.failure.ok() ||
      !backend_->is_enabled(index)) {
    return;
  }
  // HandleQueue() meets the same rule that the driver has broken, and reports it.
  if (!mine.requests.Serve(*queue, disk_).ok()) return;
  // The session has its turn first.
  if (mine.requests.wants_more()) backend_->RunOnQueue(index, [this, index] { Complete(index); });
}

void BlockDevice::QueueStopping(Backend& /*backend*/, Virtqueue& queue) {
  Queue& mine = *queues_[queue.index()];
  mine.calls.AssertAlone();
  // All requests that were taken have begun: they go on to their end.
  mine.is_stopping = true;
}

void BlockDevice::QueueFailed(uint16_t index, const absl::Status& why) {
  Queue& mine = *queues_[index];
  mine.calls.AssertAlone();
  mine.failure = why;
  tools::PrintError(kName,
                    absl::StrCat("virtqueue ", index, " is no longer served: ", why.message()));
}

void BlockDevice::QueueStopped(uint16_t index) {
  Queue& mine = *queues_[index];
  mine.calls.AssertAlone();
  if (backend_ != nullptr && mine.requests.fd() >= 0) {
    backend_->Unwatch(index, mine.requests.fd());
  }
  mine.requests.Abandon();
  if (--nr_working_ == 0) image_->Unlock();
}
