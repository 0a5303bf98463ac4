// SPDX-License-Identifier: MIT OR Apache-2.0
// fallocate() that completes even under signals. Not installed.
#ifndef GMEM_BASE_FALLOCATE_H_
#define GMEM_BASE_FALLOCATE_H_

#include "gmem/types.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Calls fallocate() for @range of a file with pages of @page_size. The end of @range must fit
// off_t. Returns 0 or an errno, never EINTR.
//
// When a signal interrupts an allocation, the next call walks over all pages that are allocated
// already. Under a periodic signal, the allocation of a large range would therefore never complete.
// So allocate in small pieces. Punch a hole with a single call, because that call frees all of the
// range or nothing.
int FallocateInChunks(int fd, int mode, ByteRange range, ByteSize page_size);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_FALLOCATE_H_
