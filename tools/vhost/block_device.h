// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_DEVICE_H_
#define GMEM_TOOLS_VHOST_BLOCK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "block_config.h"
#include "block_image.h"
#include "block_io.h"
#include "block_queue.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/queue_calls.h"
#include "gmem/vhost/virtqueue.h"

// A virtio block device (virtio 1.3, 5.2) on a file or a block device of the host. Each virtqueue
// has an io_uring.
class BlockDevice : public gmem::vhost::Device {
 public:
  // When is the image locked?
  enum class Locking : uint8_t {
    // From the start to the stop of the last virtqueue, and whenever virtqueues work.
    kFromStart,
    // Whenever virtqueues work. The destination of a migration waits for the source in this way.
    kWhileUsed,
    kNever,
  };
  struct Options {
    uint16_t nr_queues = 4;
    Locking locking = Locking::kFromStart;
    // 1 to 20 bytes.
    std::string serial = "gmem-vhost-blk";
    // Offer postcopy migration, see gmem::vhost::Device.
    bool has_postcopy = false;
  };

  // Locks the image unless Options says otherwise. @growth is a signalfd: readable when the device
  // shall look whether the image has grown; none: never.
  static absl::StatusOr<std::unique_ptr<BlockDevice>> Create(std::unique_ptr<BlockImage> image,
                                                             gmem::UniqueFd growth,
                                                             const Options& options);

  uint64_t features() const override { return config_.features(); }
  uint64_t protocol_features() const override;
  uint16_t nr_queues() const override { return options_.nr_queues; }
  void SetFeatures(uint64_t features) override { config_.SetFeatures(features); }
  uint32_t config_size() const override { return BlockConfig::kSize; }
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override;
  absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from,
                           uint32_t flags) override;

  // A flush of a large page cache to a slow disk takes minutes.
  absl::Duration stop_timeout() const override { return absl::Minutes(10); }
  void QueueStarted(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  absl::Status HandleQueue(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void QueueStopping(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void QueueFailed(uint16_t index, const absl::Status& why) override;
  void QueueStopped(uint16_t index) override;
  void Reset() override { config_.Reset(); }
  void Connected(gmem::vhost::Backend& backend) override;
  void Disconnected() override;
  void PostcopyFailed() override;

 private:
  struct Queue {
    explicit Queue(std::unique_ptr<BlockIo> io) : requests(std::move(io)) {}
    gmem::vhost::QueueCalls calls;
    BlockQueue requests ABSL_GUARDED_BY(calls);
    bool is_stopping ABSL_GUARDED_BY(calls) = false;
    // Why the virtqueue can't work.
    absl::Status failure ABSL_GUARDED_BY(calls);
  };

  BlockDevice(std::unique_ptr<BlockImage> image, gmem::UniqueFd growth, const Options& options);
  // Operations of a virtqueue have ended.
  void Complete(uint16_t index);
  void TakeGrowth();

  const std::unique_ptr<BlockImage> image_;
  const Options options_;
  gmem::vhost::Backend* backend_ = nullptr;
  std::vector<std::unique_ptr<Queue>> queues_;
  const gmem::UniqueFd growth_;
  // Calls for virtqueues only read it.
  BlockConfig config_;
  // Virtqueues that have started.
  size_t nr_working_ = 0;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_DEVICE_H_
