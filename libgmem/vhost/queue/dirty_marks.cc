// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/dirty_marks.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/peer_pages.h"
#include "vhost/wire/budget_share.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

constexpr uint64_t kBitsPerByte = 8;
// Bytes of a bitmap that has a bit for each page of 64 bits of addresses.
constexpr uint64_t kMaxLogSize = uint64_t{1} << (64 - 12 - 3);

}  // namespace

struct __attribute__((visibility("hidden"))) DirtyMarks::State {
  wire_internal::BudgetShare share;
  Mapping mapping;
  virtqueue_internal::PeerPages watched;
  // The bitmap in it.
  uint8_t* bits = nullptr;
  uint64_t nr_bits = 0;
};

DirtyMarks::DirtyMarks() = default;
DirtyMarks::DirtyMarks(DirtyMarks&& other) noexcept = default;
DirtyMarks& DirtyMarks::operator=(DirtyMarks&& other) noexcept = default;
DirtyMarks::~DirtyMarks() = default;

bool DirtyMarks::is_valid() const { return state_ != nullptr; }
bool DirtyMarks::is_broken() const { return is_valid() && state_->watched.is_broken(); }

absl::StatusOr<DirtyMarks> DirtyMarks::Create(const LogArea& area, int fd, uint64_t guest_end) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return ErrnoError(errno, "can't get the size of the log's file");
  const auto file_size = static_cast<uint64_t>(info.st_size);
  if (area.mmap_size == 0 || area.mmap_size > kMaxLogSize || area.mmap_size > file_size ||
      area.mmap_offset > file_size - area.mmap_size) {
    return CheckError(EINVAL, absl::StrCat("a log of ", area.mmap_size, " bytes at offset ",
                                           area.mmap_offset, " isn't in its file of ", file_size));
  }
  const uint64_t nr_pages = guest_end / kLogPageSize + (guest_end % kLogPageSize == 0 ? 0 : 1);
  if (area.mmap_size * kBitsPerByte < nr_pages) {
    return CheckError(EINVAL, absl::StrCat("a log of ", area.mmap_size, " bytes is too small for ",
                                           nr_pages, " pages of guest memory"));
  }
  const uint64_t before = area.mmap_offset % HostPageSize().value();
  DirtyMarks log;
  log.state_ = std::make_unique<State>();
  GMEM_ASSIGN_OR_RETURN(log.state_->share, wire_internal::BudgetShare::Take(
                                               wire_internal::BudgetShare::Kind::kMappings, 1));
  GMEM_ASSIGN_OR_RETURN(log.state_->mapping,
                        Mapping::OfFile(fd, {.offset = ByteOffset(area.mmap_offset - before),
                                             .size = ByteSize(before + area.mmap_size)}));
  log.state_->watched = virtqueue_internal::PeerPages(log.state_->mapping.span());
  log.state_->bits = log.state_->mapping.data() + before;
  log.state_->nr_bits = area.mmap_size * kBitsPerByte;
  return log;
}

void DirtyMarks::Mark(uint64_t guest_address, uint64_t size) const {
  if (state_ == nullptr || size == 0) return;
  const uint64_t max = std::numeric_limits<uint64_t>::max();
  const uint64_t last_byte = size - 1 > max - guest_address ? max : guest_address + (size - 1);
  const uint64_t end = std::min(last_byte / kLogPageSize + 1, state_->nr_bits);
  for (uint64_t page = guest_address / kLogPageSize; page < end; page++) {
    const auto bit = static_cast<uint8_t>(1U << (page % kBitsPerByte));
    __atomic_fetch_or(&state_->bits[page / kBitsPerByte], bit, __ATOMIC_RELEASE);
  }
}

}  // namespace gmem::vhost
