// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/host_map.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

namespace gmem::internal {

absl::Status MapOver(absl::Span<uint8_t> addresses, int fd, ByteOffset offset,
                     MemoryAccess access) {
  const ByteSize size(addresses.size());
  absl::StatusOr<Mapping> mapping =
      Mapping::OfFile(fd, {.offset = offset, .size = size, .access = access});
  if (!mapping.ok()) return mapping.status();

  if (mremap(mapping->data(), mapping->size(), mapping->size(), MREMAP_MAYMOVE | MREMAP_FIXED,
             addresses.data()) == MAP_FAILED) {
    return ErrnoError(errno, absl::StrCat("can't move a mapping of ", ToString(size),
                                          " of descriptor ", fd, " to where it belongs"));
  }
  mapping->Release();
  return absl::OkStatus();
}

absl::StatusOr<Mapping> MapPart(int fd, ByteRange part, ByteSize size, MemoryAccess access,
                                absl::string_view name) {
  const std::string wrong =
      FindRangeError({.start_name = "offset",
                      .page_size = HostPageSize(),
                      .page_owner = "host",
                      .limit = size.value(),
                      .limit_name = absl::StrCat("the ", ToString(size), " of this ", name)},
                     part.start.value(), part.size);
  if (!wrong.empty()) {
    return CheckError(part.IsValid() ? EINVAL : EOVERFLOW,
                      absl::StrCat("can't map ", name, ": ", wrong));
  }
  return Mapping::OfFile(fd, {.offset = part.start, .size = part.size, .access = access});
}

absl::Status CheckFileReaches(int fd, ByteOffset offset, ByteSize size) {
  struct stat stat = {};
  if (fstat(fd, &stat) != 0) return ErrnoError(errno, absl::StrCat("can't map descriptor ", fd));
  // Devices and similar files have no meaningful size.
  if (!S_ISREG(stat.st_mode)) return absl::OkStatus();

  const uint64_t mask = HostPageSize().value() - 1;
  const ByteOffset end((static_cast<uint64_t>(stat.st_size) + mask) & ~mask);
  if (offset + size <= end) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat(ToString(size), " from offset ", ToString(offset),
                                         " of descriptor ", fd, " reach beyond its file, of ",
                                         ToString(ByteSize(static_cast<uint64_t>(stat.st_size)))));
}

absl::Status ReserveOver(absl::Span<uint8_t> addresses) {
  if (mmap(addresses.data(), addresses.size(), PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    return ErrnoError(errno, absl::StrCat("can't unmap ", ToString(ByteSize(addresses.size()))));
  }
  return absl::OkStatus();
}

}  // namespace gmem::internal
