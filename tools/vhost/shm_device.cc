// SPDX-License-Identifier: MIT OR Apache-2.0
#include "shm_device.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/program.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "shm_protocol.h"

namespace {

constexpr absl::string_view kName = "gmem-vhost-shm";
// Requests of one call. The limit lets the front-end have its turn.
constexpr int kBatch = 64;

uint64_t RoundUpToPage(uint64_t size) {
  const uint64_t page = gmem::HostPageSize().value();
  return (size + page - 1) / page * page;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShmDevice>> ShmDevice::Create(const std::vector<std::string>& files,
                                                             const Options& options) {
  std::unique_ptr<ShmDevice> device(new ShmDevice(options));
  uint64_t end = 0;
  for (const std::string& argument : files) {
    File file = {.path = argument, .fd = {}, .size = 0, .shm_offset = end};
    const size_t at = argument.rfind('@');
    if (at != std::string::npos) {
      file.path = argument.substr(0, at);
      uint64_t& offset = file.shm_offset;
      if (!absl::SimpleAtoi(argument.substr(at + 1), &offset) || offset != RoundUpToPage(offset)) {
        return absl::InvalidArgumentError(
            absl::StrCat(argument, ": the number after @ must be a multiple of the page size"));
      }
    }
    file.fd.reset(open(file.path.c_str(), (options.is_read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    struct stat info = {};
    if (!file.fd || fstat(file.fd.get(), &info) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("can't open ", file.path));
    }
    // A file can be mapped up to the end of its last page.
    file.size = RoundUpToPage(static_cast<uint64_t>(info.st_size));
    if (file.size == 0 || file.shm_offset > options.size ||
        file.size > options.size - file.shm_offset) {
      return absl::InvalidArgumentError(absl::StrCat(file.path, ": ", file.size, " bytes at ",
                                                     file.shm_offset, " don't fit the region of ",
                                                     options.size, " bytes (see --size)"));
    }
    end = file.shm_offset + file.size;
    device->files_.push_back(std::move(file));
  }
  return device;
}

std::vector<uint64_t> ShmDevice::shmem_sizes() const {
  std::vector<uint64_t> sizes(options_.shmid + size_t{1});
  sizes.back() = options_.size;
  return sizes;
}

void ShmDevice::ChannelOpened(gmem::vhost::Backend& backend) {
  if (!backend.has_feature(gmem::vhost::ProtocolFeature::kStatus)) is_ready_ = true;
  MapAll();
}

// QEMU 11.1 crashes if a mapping comes before the driver is ready, or after a reset. QEMU doesn't
// pass on DRIVER_OK for every device, so take a virtqueue that works as the same sign.
void ShmDevice::SetStatus(uint8_t status) {
  if ((status & static_cast<uint8_t>(gmem::vhost::DeviceStatus::kDriverOk)) == 0) return;
  is_ready_ = true;
  MapAll();
}

void ShmDevice::MapAll() {
  if (!options_.map_at_start || !is_ready_ || has_mapped_ || !backend_->has_channel()) return;
  has_mapped_ = true;
  for (const File& file : files_) {
    const gmem::vhost::ShmemMapping mapping = {
        .shmid = options_.shmid,
        .padding = {},
        .fd_offset = 0,
        .shm_offset = file.shm_offset,
        .len = file.size,
        .flags = options_.is_read_only ? 0 : gmem::vhost::kShmemMapRw};
    backend_->ShmemMap(mapping, file.fd.get(), [path = file.path](const absl::Status& status) {
      if (status.ok()) return;
      tools::PrintError(kName, absl::StrCat("can't map ", path, ": ", status.message()));
    });
  }
}

absl::Status ShmDevice::HandleQueue(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) {
  for (int i = 0; i < kBatch; i++) {
    gmem::vhost::Chain chain;
    if (queue.Pop(chain) != gmem::vhost::Popped::kChain) break;
    const Number number = next_number_++;
    pending_[number] = {.chain = std::move(chain), .queue = queue.index()};
    Start(backend, number);
  }
  return queue.status();
}

bool ShmDevice::IsValid(const ShmRequest& request) const {
  if (request.padding != 0) return false;
  if (request.op == kShmUnmap) return request.flags <= kShmWritable;
  if (request.op != kShmMap || request.file >= files_.size()) return false;
  const uint64_t size = files_[request.file].size;
  return request.flags <= (options_.is_read_only ? 0 : kShmWritable) &&
         request.file_offset <= size && request.length <= size - request.file_offset;
}

void ShmDevice::Start(gmem::vhost::Backend& backend, Number number) {
  ShmRequest request;
  if (!pending_[number].chain.ReadStruct(0, request) || !IsValid(request)) {
    Answer(backend, number, kShmInvalid);
    return;
  }
  const bool is_map = request.op == kShmMap;
  const bool is_writable = is_map && (request.flags & kShmWritable) != 0;
  const gmem::vhost::ShmemMapping mapping = {.shmid = options_.shmid,
                                             .padding = {},
                                             .fd_offset = is_map ? request.file_offset : 0,
                                             .shm_offset = request.shm_offset,
                                             .len = request.length,
                                             .flags = is_writable ? gmem::vhost::kShmemMapRw : 0};
  auto done = [this, &backend, number, mapping, is_map](const absl::Status& status) {
    if (is_map && status.ok() && !pending_.contains(number)) {
      // The driver never learns of this mapping, so remove it.
      backend.ShmemUnmap(mapping, [](const absl::Status&) {});
      return;
    }
    Answer(backend, number, status.ok() ? kShmOk : kShmRefused);
  };
  if (is_map) {
    backend.ShmemMap(mapping, files_[request.file].fd.get(), std::move(done));
  } else {
    backend.ShmemUnmap(mapping, std::move(done));
  }
}

// The front-end may leave the device's requests unanswered until the device has stopped.
void ShmDevice::QueueStopping(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) {
  for (auto next = pending_.begin(); next != pending_.end();) {
    const auto pending = next++;
    if (pending->second.queue == queue.index()) Answer(backend, pending->first, kShmRefused);
  }
}

// It may also wait with its answers until it can remove memory.
void ShmDevice::MemoryRemoved(gmem::vhost::Backend& backend, gmem::vhost::Virtqueue& queue) {
  for (auto next = pending_.begin(); next != pending_.end();) {
    const auto pending = next++;
    if (pending->second.queue == queue.index() && queue.IsInRemovedMemory(pending->second.chain)) {
      Answer(backend, pending->first, kShmRefused);
    }
  }
}

void ShmDevice::Answer(gmem::vhost::Backend& backend, Number number, uint8_t answer) {
  const auto pending = pending_.find(number);
  if (pending == pending_.end()) return;
  const gmem::vhost::Chain& chain = pending->second.chain;
  gmem::vhost::Virtqueue* const queue = backend.queue(pending->second.queue);
  queue->Push(chain, chain.Write(0, &answer, sizeof(answer)));
  queue->Notify();
  pending_.erase(pending);
}

void ShmDevice::QueueFailed(uint16_t index, const absl::Status& why) {
  tools::PrintError(kName,
                    absl::StrCat("virtqueue ", index, " is no longer served: ", why.message()));
}

void ShmDevice::QueueStopped(uint16_t index) {
  std::erase_if(pending_, [index](const auto& entry) { return entry.second.queue == index; });
}
