// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "lib/block_client.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

constexpr size_t kBlock = 4096;
constexpr uint64_t kSectorsPerBlock = kBlock / BlockClient::kSectorSize;
constexpr uint64_t kImageSize = 64 << 20;
constexpr uint64_t kBlocks = kImageSize / kBlock;
constexpr size_t kMaxDepth = 32;
constexpr int kBatch = 4000;
constexpr int kSamples = 15;

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    exit(1);
  }
  return *std::move(value);
}

void OrDie(const absl::Status& status) { OrDie(status.ok() ? absl::StatusOr<int>(0) : status); }

// A running block device with one virtqueue.
class Disk {
 public:
  Disk(Peer peer, const std::string& socket) : peer_(std::move(peer)) {
    memory_ = OrDie(doubles::DriverMemory::Create(2 << 20));
    client_ = OrDie(BlockClient::Create(*memory_, 128, kMaxDepth, kBlock));
    frontend_ = OrDie(ConnectFrontend(socket, 0));
    OrDie(ShareMemory(*frontend_, *memory_));
    OrDie(StartRing(*frontend_, 0, client_->ring()));
    OrDie(frontend_->DriverOk());
  }

  // Runs kBatch requests of one block each, @depth at a time, spread over the disk.
  void Run(BlockClient::Type type, size_t depth) {
    int started = 0;
    const auto start = [&](size_t slot) {
      block_ = (block_ * 5 + 7919) % kBlocks;
      OrDie(client_->Start(slot, type, block_ * kSectorsPerBlock, kBlock));
      started++;
    };
    for (size_t slot = 0; slot < depth; slot++) start(slot);
    client_->ring().Kick();
    for (int done = 0; done < kBatch; done++) {
      const auto [slot, result] = OrDie(client_->Complete());
      if (result != BlockClient::Result::kOk) OrDie(absl::DataLossError("an I/O error"));
      if (started == kBatch) continue;
      start(slot);
      client_->ring().Kick();
    }
  }

 private:
  Peer peer_;
  std::unique_ptr<doubles::DriverMemory> memory_;
  std::optional<BlockClient> client_;
  std::unique_ptr<Frontend> frontend_;
  uint64_t block_ = 1;
};

// An image in memory: if a disk wrote back during a row, the result would measure the disk.
class Image {
 public:
  Image() : file_(memfd_create("image", MFD_CLOEXEC)) {
    if (posix_fallocate(file_.get(), 0, kImageSize) != 0) {
      OrDie(absl::ResourceExhaustedError("no memory for an image"));
    }
  }

  // A path that other processes can open, too.
  std::string path() const {
    return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file_.get());
  }

 private:
  UniqueFd file_;
};

}  // namespace

void BenchBlock(const char* our_device) {
  if (access(our_device, X_OK) != 0) {
    NotMeasured("block requests", "no gmem-vhost-blk in GMEM_TOOLS");
    return;
  }
  ScratchFolder scratch;
  const Image our_image, their_image;
  Disk ours(OrDie(Peer::Start({our_device, "--socket-path=" + scratch.path("our-socket"),
                               "--blk-file=" + our_image.path()})),
            scratch.path("our-socket"));
  Disk theirs(OrDie(Peer::StartPackaged(
                  {"qemu-storage-daemon", "--blockdev",
                   "driver=file,node-name=f,filename=" + their_image.path(), "--export",
                   "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,writable=on,addr.path=" +
                       scratch.path("socket")})),
              scratch.path("socket"));
  using Type = BlockClient::Type;
  struct Load {
    const char* name;
    Type type;
    size_t depth;
  };
  for (const Load& load :
       {Load{"4 KiB read, 1 at a time : qemu-storage-daemon", Type::kRead, 1},
        Load{"4 KiB read, 32 : qemu-storage-daemon", Type::kRead, kMaxDepth},
        Load{"4 KiB write, 32 : qemu-storage-daemon", Type::kWrite, kMaxDepth}}) {
    Samples our_samples, their_samples;
    for (int i = 0; i < kSamples; i++) {
      our_samples.Time(
          1, [&] { ours.Run(load.type, load.depth); }, kBatch);
      their_samples.Time(
          1, [&] { theirs.Run(load.type, load.depth); }, kBatch);
    }
    Row(load.name, our_samples, their_samples, kAtLeast, 1);
  }
}

}  // namespace gmem::vhost::peers
