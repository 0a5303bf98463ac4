// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_SHM_DEVICE_H_
#define GMEM_TOOLS_VHOST_SHM_DEVICE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "shm_protocol.h"

// A device that maps files into its one shared memory region: when the driver asks
// (shm_protocol.h), or all files at the start. The start is when the driver is ready or its first
// virtqueue works. If the front-end doesn't report the driver's status, the start is at once.
class ShmDevice : public gmem::vhost::Device {
 public:
  struct Options {
    // The region's number, and its size in bytes, which is in whole pages.
    uint8_t shmid = 0;
    uint64_t size = 0;
    uint16_t nr_queues = 1;
    bool map_at_start = false;
    bool is_read_only = false;
  };
  // @files are "PATH" or "PATH@OFFSET": OFFSET is the place in the region at the start.
  static absl::StatusOr<std::unique_ptr<ShmDevice>> Create(const std::vector<std::string>& files,
                                                           const Options& options);

  uint64_t features() const override { return 0; }
  uint16_t nr_queues() const override { return options_.nr_queues; }
  std::vector<uint64_t> shmem_sizes() const override;
  absl::Status HandleQueue(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void Connected(gmem::vhost::Backend& backend) override { backend_ = &backend; }
  void Disconnected() override {
    backend_ = nullptr;
    is_ready_ = has_mapped_ = false;
  }
  void ChannelOpened(gmem::vhost::Backend& backend) override;
  void SetStatus(uint8_t status) override;
  void QueueStarted(gmem::vhost::Backend& /*backend*/, gmem::vhost::Virtqueue& /*queue*/) override {
    is_ready_ = true;
    MapAll();
  }
  void QueueStopping(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void MemoryRemoved(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) override;
  void QueueFailed(uint16_t index, const absl::Status& why) override;
  void QueueStopped(uint16_t index) override;
  void Reset() override { is_ready_ = has_mapped_ = false; }

 private:
  struct File {
    std::string path;
    gmem::UniqueFd fd;
    uint64_t size = 0;
    uint64_t shm_offset = 0;
  };
  // A request of the driver that waits for the front-end.
  struct Pending {
    gmem::vhost::Chain chain;
    uint16_t queue = 0;
  };
  // Pending requests have numbers: if an answer comes after the virtqueue has stopped, its number
  // no longer exists.
  using Number = uint64_t;

  explicit ShmDevice(const Options& options) : options_(options) {}
  void Start(gmem::vhost::Backend& backend, Number number);
  bool IsValid(const ShmRequest& request) const;
  void Answer(gmem::vhost::Backend& backend, Number number, uint8_t answer);

  void MapAll();

  Options options_;
  gmem::vhost::Backend* backend_ = nullptr;
  // Since the start or the last reset of the session: may files be mapped, and are they mapped?
  bool is_ready_ = false;
  bool has_mapped_ = false;
  std::vector<File> files_;
  std::map<Number, Pending> pending_;
  Number next_number_ = 0;
};

#endif  // GMEM_TOOLS_VHOST_SHM_DEVICE_H_
