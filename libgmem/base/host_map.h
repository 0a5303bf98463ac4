// SPDX-License-Identifier: MIT OR Apache-2.0
// Mapping files over addresses that this process has reserved. Not installed.
#ifndef GMEM_BASE_HOST_MAP_H_
#define GMEM_BASE_HOST_MAP_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Maps @fd from @offset on over @addresses, and replaces the mapping there. On an error, the
// mapping at @addresses stays as it was.
//
// The function maps the file at other addresses first and then moves that mapping to @addresses. A
// direct mmap() would remove the old mapping before it asks the file: if the file refuses, a gap
// remains, and another thread's mmap() could take it.
absl::Status MapOver(absl::Span<uint8_t> addresses, int fd, ByteOffset offset, MemoryAccess access);

// Maps @part of a file of @size bytes. InvalidArgument or OutOfRange if @part doesn't lie in the
// file, which mmap() itself accepts: that is a mistake of the caller. @name is the file's kind, for
// messages.
absl::StatusOr<Mapping> MapPart(int fd, ByteRange part, ByteSize size, MemoryAccess access,
                                absl::string_view name);

// Returns InvalidArgument if the range extends beyond the last page of the file. A touch of such
// pages raises SIGBUS. KVM can't distinguish them from pages that are slow to read, and may wait
// for them forever.
absl::Status CheckFileReaches(int fd, ByteOffset offset, ByteSize size);

// Makes @addresses inaccessible, as Mapping::Reserve() does.
absl::Status ReserveOver(absl::Span<uint8_t> addresses);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_HOST_MAP_H_
