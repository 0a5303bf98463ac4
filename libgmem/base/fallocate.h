// SPDX-License-Identifier: Apache-2.0
// fallocate() that gets to its end. Not installed.
#ifndef GMEM_BASE_FALLOCATE_H_
#define GMEM_BASE_FALLOCATE_H_

#include "gmem/types.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Calls fallocate() for @range, whose end fits off_t, of a file whose pages are of
// @page_size; returns 0 or an errno, never EINTR.
//
// A signal makes the kernel stop an allocation on the way, and the next try walks past all
// that is there: of a large range under a periodic signal, none would come to its end. So
// allocate piece by piece. A punch is one call: it frees all of the range or nothing.
int FallocateInChunks(int fd, int mode, ByteRange range, ByteSize page_size);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_FALLOCATE_H_
