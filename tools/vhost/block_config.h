// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_CONFIG_H_
#define GMEM_TOOLS_VHOST_BLOCK_CONFIG_H_

#include <linux/virtio_blk.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "block_image.h"
#include "block_request.h"

// A virtio block device (virtio 1.3, 5.2) as its driver sees it and sets it up.
class BlockConfig {
 public:
  struct Options {
    uint16_t nr_queues = 1;
    // 1 to 20 bytes.
    std::string serial = {};
    // May pages of guest memory be missing until the front-end brings them?
    bool has_postcopy = false;
    // Can the driver write to the configuration, to choose the cache's mode?
    bool is_writable = false;
  };
  static constexpr uint32_t kSize = sizeof(virtio_blk_config);

  // @image must outlive the object.
  BlockConfig(const BlockImage* image, const Options& options);

  // The features that the device offers.
  uint64_t features() const;
  // The driver's choice of these.
  void SetFeatures(uint64_t features);
  void Reset() { SetCache(/*has_flush=*/true, /*is_writeback=*/true); }

  // Both stay below kSize.
  void Read(uint32_t offset, absl::Span<uint8_t> to) const;
  // InvalidArgument unless the bytes are what a driver may write; @is_migration: or those of
  // another device like this one.
  absl::Status Write(uint32_t offset, absl::Span<const uint8_t> from, bool is_migration);

  // For the next requests.
  const BlockDisk& disk() const { return disk_; }

 private:
  // Without flushes, the driver expects a completed write to be stable (virtio 1.3, 5.2.6.2),
  // whatever it asks for.
  void SetCache(bool has_flush, bool is_writeback);

  const Options options_;
  BlockDisk disk_;
  bool has_flush_ = true;
  bool is_writeback_ = true;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_CONFIG_H_
