// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_MINIVMM_IMAGE_DISK_H_
#define GMEM_TOOLS_MINIVMM_IMAGE_DISK_H_

#include <linux/virtio_blk.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/virtqueue.h"

// A virtio block device (virtio 1.3, 5.2) on a file or a block device of the host. It carries out
// requests one after the other, when they come.
class ImageDisk : public gmem::vhost::Device {
 public:
  struct Options {
    bool is_read_only = false;
    uint16_t nr_queues = 4;
  };

  static absl::StatusOr<ImageDisk> Open(const std::string& path, const Options& options);
  ImageDisk(ImageDisk&& other) noexcept;

  // Serves some of the requests in @queue.
  absl::Status Serve(gmem::vhost::Virtqueue& queue);

  uint64_t features() const override;
  uint16_t nr_queues() const override { return options_.nr_queues; }
  uint32_t config_size() const override { return sizeof(virtio_blk_config); }
  absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to) override;
  absl::Status HandleQueue(gmem::vhost::Backend& /*backend*/,
                           gmem::vhost::Virtqueue& queue) override {
    return Serve(queue);
  }
  void SetFeatures(uint64_t features) override;
  void QueueFailed(uint16_t index, const absl::Status& why) override;

 private:
  ImageDisk(gmem::UniqueFd file, uint64_t size, const Options& options)
      : file_(std::move(file)), size_(size), options_(options) {}

  // Each returns the status byte of the request.
  uint8_t Do(const gmem::vhost::Chain& chain);
  uint8_t Transfer(const gmem::vhost::Chain& chain, uint64_t sector, bool is_write);
  uint8_t Flush() const;
  // Flushes for a driver that can't: such a driver expects a completed write to be stable (virtio
  // 1.3, 5.2.6.2).
  uint8_t Settle(uint8_t status) const;
  uint8_t GetId(const gmem::vhost::Chain& chain) const;
  uint8_t Discard(const gmem::vhost::Chain& chain, bool is_zeroing);
  uint8_t DiscardRange(const virtio_blk_discard_write_zeroes& range, bool is_zeroing);
  bool IsInFile(uint64_t sector, uint64_t size) const;

  gmem::UniqueFd file_;
  // In bytes; whole sectors.
  uint64_t size_;
  Options options_;
  bool has_flush_ = false;
  // Does the driver know the limits of one request?
  bool has_limits_ = false;
  gmem::vhost::Chain chain_;
};

#endif  // GMEM_TOOLS_MINIVMM_IMAGE_DISK_H_
