// SPDX-License-Identifier: MIT OR Apache-2.0
// The disk of gmem-vhost-blk, as a device of this process.
#ifndef GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_
#define GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_

#include <linux/virtio_ids.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "block_config.h"
#include "block_image.h"
#include "block_io.h"
#include "block_queue.h"
#include "gmem/vhost/virtqueue.h"
#include "virtio_device.h"

namespace minivmm {

// Carries out requests one after the other, when they come.
class VirtioDisk : public VirtioDevice {
 public:
  // @image must outlive the object.
  VirtioDisk(const BlockImage* image, uint16_t nr_queues)
      : config_(image, {.nr_queues = nr_queues, .serial = "minivmm"}) {
    for (uint16_t i = 0; i < nr_queues; i++) {
      queues_.push_back(
          std::make_unique<BlockQueue>(BlockIo::CreateSynchronous(image->fd())));
    }
  }

  uint32_t id() const override { return VIRTIO_ID_BLOCK; }
  uint64_t features() const override { return config_.features(); }
  uint16_t nr_queues() const override { return static_cast<uint16_t>(queues_.size()); }
  std::vector<uint8_t> config() const override {
    std::vector<uint8_t> config(BlockConfig::kSize);
    config_.Read(0, absl::MakeSpan(config));
    return config;
  }
  void SetFeatures(uint64_t features) override { config_.SetFeatures(features); }
  absl::Status Serve(gmem::vhost::Virtqueue& queue) override {
    return queues_[queue.index()]->Serve(queue, config_.disk());
  }

 private:
  BlockConfig config_;
  std::vector<std::unique_ptr<BlockQueue>> queues_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_
