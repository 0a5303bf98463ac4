// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/mapping.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"

namespace gmem {

ByteSize HostPageSize() { return ByteSize(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))); }

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    Reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

void Mapping::Reset() {
  if (data_ == nullptr) return;
  munmap(std::exchange(data_, nullptr), std::exchange(size_, 0));
}

namespace {

// The kernel rounds a mapping of huge pages up to whole huge pages. The mapping would be larger
// than the library knows, and mremap() and munmap() round their sizes, too, or fail.
absl::Status CheckHugePages(int fd, ByteSize size) {
  struct statfs fs = {};
  if (fstatfs(fd, &fs) != 0) {
    return internal::ErrnoError(errno, absl::StrCat("can't ask about the file of descriptor ", fd));
  }
  const ByteSize page(static_cast<uint64_t>(fs.f_bsize));
  if (fs.f_type != HUGETLBFS_MAGIC || IsAligned(size, page)) return absl::OkStatus();
  return internal::CheckError(EINVAL, absl::StrCat("can't map ", ToString(size), " of descriptor ",
                                                   fd, ": its file has pages of ", ToString(page)));
}

}  // namespace

absl::StatusOr<Mapping> Mapping::OfFile(int fd, const FileOptions& options) {
  GMEM_RETURN_IF_ERROR(CheckHugePages(fd, options.size));
  const int prot = options.access == MemoryAccess::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* data = mmap(nullptr, options.size.value(), prot, MAP_SHARED, fd,
                    static_cast<off_t>(options.offset.value()));
  if (data == MAP_FAILED) {
    return internal::ErrnoError(
        errno, absl::StrCat("can't map ", ToString(options.size), " at offset ",
                            ToString(options.offset), " of descriptor ", fd,
                            options.access == MemoryAccess::kReadWrite ? " for writing" : ""));
  }
  return Mapping(static_cast<uint8_t*>(data), options.size.value());
}

absl::StatusOr<Mapping> Mapping::Reserve(ByteSize size, ByteSize alignment) {
  const ByteSize page = HostPageSize();
  if (size == ByteSize(0) || !IsAligned(size, page)) {
    return internal::CheckError(
        EINVAL, absl::StrCat("can't reserve ", ToString(size), " of addresses: not a multiple of ",
                             ToString(page), ", or 0"));
  }
  if (!std::has_single_bit(alignment.value())) {
    return internal::CheckError(EINVAL, absl::StrCat("can't align addresses to ",
                                                     ToString(alignment), ": not a power of two"));
  }

  // Reserve more addresses, then unmap those before and after the aligned part.
  const uint64_t slack = alignment > page ? (alignment - page).value() : 0;
  if (slack > std::numeric_limits<size_t>::max() - size.value()) {
    return internal::CheckError(
        ENOMEM, absl::StrCat("can't reserve ", ToString(size), " of addresses aligned to ",
                             ToString(alignment), ": this process doesn't have as many"));
  }
  const size_t total = size.value() + slack;
  void* reserved =
      mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) {
    return internal::ErrnoError(errno,
                                absl::StrCat("can't reserve ", ToString(size), " of addresses"));
  }
  auto* const begin = static_cast<uint8_t*>(reserved);
  const size_t before = -reinterpret_cast<uintptr_t>(begin) & (alignment.value() - 1);
  if (before > 0) munmap(begin, before);
  if (slack > before) munmap(begin + before + size.value(), slack - before);
  return Mapping(begin + before, size.value());
}

absl::Span<uint8_t> Mapping::span(ByteRange range) const {
  const ByteRange whole = {ByteOffset(0), ByteSize(size_)};
  if (!whole.Contains(range)) return {};
  return {data_ + range.start.value(), range.size.value()};
}

}  // namespace gmem
