// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/inflight.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
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

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// Each queue's part begins in a cache line of its own.
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

absl::StatusOr<InflightBuffer> InflightBuffer::Create(uint16_t nr_queues, uint16_t queue_size,
                                                      bool is_packed, size_t max_queues) {
  GMEM_RETURN_IF_ERROR(CheckCounts(nr_queues, queue_size, max_queues));
  const uint64_t size = PartSize(queue_size, is_packed) * nr_queues;
  UniqueFd fd(memfd_create("gmem-vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ErrnoError(errno, "can't make an inflight buffer");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make an inflight buffer of ", size, " bytes"));
  }
  // The front-end can't take it away below us.
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
  if (fstat(fd.get(), &info) != 0) return ErrnoError(errno, "can't ask for an inflight buffer");
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
  InflightBuffer buffer;
  buffer.start_ = area.mmap_offset % HostPageSize().value();
  GMEM_ASSIGN_OR_RETURN(
      buffer.mapping_,
      Mapping::OfFile(fd.get(), {.offset = ByteOffset(area.mmap_offset - buffer.start_),
                                 .size = ByteSize(buffer.start_ + part * area.nr_queues)}));
  buffer.stride_ = part;
  buffer.area_ = area;
  buffer.fd_ = std::move(fd);
  return buffer;
}

GuestSpan InflightBuffer::queue(size_t index) const {
  if (!is_valid() || index >= area_.nr_queues) return {};
  return mapping_.span().subspan(start_ + index * stride_, stride_);
}

}  // namespace gmem::vhost
