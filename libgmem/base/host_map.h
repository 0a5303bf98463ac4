// SPDX-License-Identifier: Apache-2.0
// Mapping over addresses that this process has reserved. Not installed.
#ifndef GMEM_BASE_HOST_MAP_H_
#define GMEM_BASE_HOST_MAP_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/types.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Map @fd from @offset on over @addresses, in place of what is mapped there.
//
// The file is mapped elsewhere first and moved here then: mmap() over old mappings takes
// those away before it asks the file, so a file that says no would leave a gap, into
// which another thread's mmap() might fall. On an error, @addresses are as they were.
absl::Status MapOver(absl::Span<uint8_t> addresses, int fd, ByteOffset offset, MemoryAccess access);

// InvalidArgument if the range lies beyond the last page of the file. Such pages of a
// mapping are SIGBUS, which KVM can't tell from pages that take time to read: it may
// wait for them for ever.
absl::Status CheckFileReaches(int fd, ByteOffset offset, ByteSize size);

// Make @addresses inaccessible: what Mapping::Reserve() gives.
absl::Status ReserveOver(absl::Span<uint8_t> addresses);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_HOST_MAP_H_
