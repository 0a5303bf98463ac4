// SPDX-License-Identifier: MIT OR Apache-2.0
// The block device of gmem-vhost-blk, as a device of this process.
#ifndef GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_
#define GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_

#include <linux/virtio_ids.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/vhost/virtqueue.h"
#include "image_disk.h"
#include "or_die.h"
#include "virtio_device.h"

namespace minivmm {

class VirtioDisk : public VirtioDevice {
 public:
  // @disk must outlive the object.
  explicit VirtioDisk(ImageDisk* disk) : disk_(disk) {}

  uint32_t id() const override { return VIRTIO_ID_BLOCK; }
  uint64_t features() const override { return disk_->features(); }
  uint16_t nr_queues() const override { return disk_->nr_queues(); }
  std::vector<uint8_t> config() const override {
    std::vector<uint8_t> config(disk_->config_size());
    OrDie(disk_->ReadConfig(0, absl::MakeSpan(config)));
    return config;
  }
  void SetFeatures(uint64_t features) override { disk_->SetFeatures(features); }
  absl::Status Serve(gmem::vhost::Virtqueue& queue) override { return disk_->Serve(queue); }

 private:
  ImageDisk* const disk_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_VIRTIO_DISK_H_
