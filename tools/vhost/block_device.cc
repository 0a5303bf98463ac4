// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_device.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/program.h"
#include "block_config.h"
#include "block_image.h"
#include "block_io.h"
#include "block_queue.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace {

using gmem::vhost::Backend;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::Virtqueue;

constexpr absl::string_view kName = "gmem-vhost-blk";
// A process that was killed keeps its lock until the operations that it has begun have ended. The
// one that is started in its place must not begin before that.
constexpr absl::Duration kPatience = absl::Seconds(1);

}  // namespace

BlockDevice::BlockDevice(std::unique_ptr<BlockImage> image, gmem::UniqueFd growth,
                         const Options& options)
    : image_(std::move(image)),
      options_(options),
      growth_(std::move(growth)),
      config_(image_.get(), {.nr_queues = options.nr_queues,
                             .serial = options.serial,
                             .has_postcopy = options.has_postcopy,
                             .is_writable = true}) {}

absl::StatusOr<std::unique_ptr<BlockDevice>> BlockDevice::Create(std::unique_ptr<BlockImage> image,
                                                                 gmem::UniqueFd growth,
                                                                 const Options& options) {
  std::unique_ptr<BlockDevice> device(
      new BlockDevice(std::move(image), std::move(growth), options));
  if (options.locking == Locking::kFromStart) {
    if (absl::Status status = device->image_->Lock(kPatience); !status.ok()) return status;
  }
  bool has_rings = true;
  for (uint16_t i = 0; i < options.nr_queues; i++) {
    absl::StatusOr<std::unique_ptr<BlockIo>> io =
        BlockIo::CreateRing(device->image_->fd(), BlockQueue::kMaxRequests);
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

uint64_t BlockDevice::protocol_features() const {
  return options_.has_postcopy ? gmem::vhost::Bit(ProtocolFeature::kPagefault) : 0;
}

absl::Status BlockDevice::ReadConfig(uint32_t offset, absl::Span<uint8_t> to) {
  config_.Read(offset, to);
  return absl::OkStatus();
}

absl::Status BlockDevice::WriteConfig(uint32_t offset, absl::Span<const uint8_t> from,
                                      uint32_t flags) {
  return config_.Write(offset, from, /*is_migration=*/flags != gmem::vhost::kConfigWritable);
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

void BlockDevice::PostcopyFailed() {
  tools::PrintError(kName,
                    "the session ends before the front-end has brought all of the guest's memory: "
                    "the program ends, too");
  _exit(1);
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
  mine.failure = options_.locking == Locking::kNever ? absl::OkStatus() : image_->Lock(kPatience);
  const int fd = mine.requests.fd();
  if (!mine.failure.ok() || fd < 0) return;
  mine.failure =
      backend.Watch(queue.index(), fd, [this, index = queue.index()] { Complete(index); });
}

absl::Status BlockDevice::HandleQueue(Backend& /*backend*/, Virtqueue& queue) {
  Queue& mine = *queues_[queue.index()];
  mine.calls.AssertIn(queue);
  if (!mine.failure.ok()) return mine.failure;
  return mine.requests.Serve(queue, config_.disk());
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
  if (!mine.requests.Serve(*queue, config_.disk()).ok()) return;
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
