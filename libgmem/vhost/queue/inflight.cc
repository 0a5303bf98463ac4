// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/inflight.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/inflight_format.h"
#include "vhost/queue/peer_pages.h"
#include "vhost/wire/budget_share.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// Each queue's part has cache lines of its own.
constexpr uint64_t kPartAlign = 64;

uint64_t PartSize(uint16_t queue_size, bool is_packed) {
  const uint64_t size =
      is_packed ? sizeof(virtqueue_internal::InflightPackedHeader) +
                      uint64_t{queue_size} * sizeof(virtqueue_internal::InflightPackedEntry)
                : sizeof(virtqueue_internal::InflightSplitHeader) +
                      uint64_t{queue_size} * sizeof(virtqueue_internal::InflightSplitEntry);
  return (size + kPartAlign - 1) / kPartAlign * kPartAlign;
}

absl::Status CheckCounts(uint16_t nr_queues, uint16_t queue_size, size_t max_queues) {
  if (nr_queues == 0 || nr_queues > max_queues || queue_size == 0 || queue_size > kMaxQueueSize) {
    return CheckError(EINVAL,
                      absl::StrCat("an inflight buffer for ", nr_queues, " queues of ", queue_size,
                                   " entries: 1 to ", max_queues, " queues of 1 to ", kMaxQueueSize,
                                   " entries are possible"));
  }
  return absl::OkStatus();
}

}  // namespace

struct __attribute__((visibility("hidden"))) InflightBuffer::State {
  wire_internal::BudgetShare fd_share;
  wire_internal::BudgetShare mapping_share;
  UniqueFd fd;
  Mapping mapping;
  virtqueue_internal::PeerPages watched;
  InflightArea area = {};
  // The offset of the first queue's part in the mapping, and the distance to the next part.
  uint64_t start = 0;
  uint64_t stride = 0;
};

InflightBuffer::InflightBuffer() = default;
InflightBuffer::InflightBuffer(InflightBuffer&& other) noexcept = default;
InflightBuffer& InflightBuffer::operator=(InflightBuffer&& other) noexcept = default;
InflightBuffer::~InflightBuffer() = default;

absl::StatusOr<InflightBuffer> InflightBuffer::Create(uint16_t nr_queues, uint16_t queue_size,
                                                      bool is_packed, size_t max_queues) {
  GMEM_RETURN_IF_ERROR(CheckCounts(nr_queues, queue_size, max_queues));
  const uint64_t size = PartSize(queue_size, is_packed) * nr_queues;
  UniqueFd fd(memfd_create("gmem-vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ErrnoError(errno, "can't make an inflight buffer");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make an inflight buffer of ", size, " bytes"));
  }
  // The front-end must not shorten the file while it is mapped here.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return ErrnoError(errno, "can't seal an inflight buffer");
  }
  const InflightArea area = {.mmap_size = size,
                             .mmap_offset = 0,
                             .nr_queues = nr_queues,
                             .queue_size = queue_size,
                             .padding = 0};
  return Adopt(area, std::move(fd), is_packed, max_queues);
}

absl::StatusOr<InflightBuffer> InflightBuffer::Adopt(const InflightArea& area, UniqueFd fd,
                                                     bool is_packed, size_t max_queues) {
  GMEM_RETURN_IF_ERROR(CheckCounts(area.nr_queues, area.queue_size, max_queues));
  struct stat info = {};
  if (fstat(fd.get(), &info) != 0)
    return ErrnoError(errno, "can't get the size of an inflight buffer's file");
  const auto file_size = static_cast<uint64_t>(info.st_size);
  const uint64_t part = PartSize(area.queue_size, is_packed);
  if (area.mmap_size < part * area.nr_queues || area.mmap_size > file_size ||
      area.mmap_offset > file_size - area.mmap_size || area.mmap_offset % alignof(uint64_t) != 0) {
    return CheckError(
        EINVAL,
        absl::StrCat("an inflight buffer of ", area.mmap_size, " bytes at offset ",
                     area.mmap_offset, " of a file of ", file_size, ": ", area.nr_queues,
                     " queues of ", area.queue_size, " entries need ", part * area.nr_queues));
  }
  auto state = std::make_unique<State>();
  using wire_internal::BudgetShare;
  GMEM_ASSIGN_OR_RETURN(state->fd_share, BudgetShare::Take(BudgetShare::Kind::kDescriptors, 1));
  GMEM_ASSIGN_OR_RETURN(state->mapping_share, BudgetShare::Take(BudgetShare::Kind::kMappings, 1));
  state->start = area.mmap_offset % HostPageSize().value();
  GMEM_ASSIGN_OR_RETURN(
      state->mapping,
      Mapping::OfFile(fd.get(), {.offset = ByteOffset(area.mmap_offset - state->start),
                                 .size = ByteSize(state->start + part * area.nr_queues)}));
  state->watched = virtqueue_internal::PeerPages(state->mapping.span());
  state->stride = part;
  state->area = area;
  state->fd = std::move(fd);
  InflightBuffer buffer;
  buffer.state_ = std::move(state);
  return buffer;
}

bool InflightBuffer::is_valid() const { return state_ != nullptr; }
bool InflightBuffer::is_broken() const { return is_valid() && state_->watched.is_broken(); }

const InflightArea& InflightBuffer::area() const {
  static constexpr InflightArea kNone = {};
  return is_valid() ? state_->area : kNone;
}

int InflightBuffer::fd() const { return is_valid() ? state_->fd.get() : -1; }

GuestSpan InflightBuffer::queue(size_t index) const {
  if (!is_valid() || index >= state_->area.nr_queues) return {};
  return state_->mapping.span().subspan(state_->start + index * state_->stride, state_->stride);
}

}  // namespace gmem::vhost
