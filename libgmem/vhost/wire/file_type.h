// SPDX-License-Identifier: MIT OR Apache-2.0
// The type of a file that a peer has sent. Not installed.
#ifndef GMEM_VHOST_WIRE_FILE_TYPE_H_
#define GMEM_VHOST_WIRE_FILE_TYPE_H_

#include <sys/types.h>

#include <optional>

#pragma GCC visibility push(hidden)
namespace gmem::vhost::wire_internal {

// The S_IFMT bits of @fd's file; nothing if the kernel doesn't say. fstat() asks the server of a
// network or FUSE file system for all attributes, and such a server may be the peer, which needn't
// answer. This takes what the kernel knows.
std::optional<mode_t> FileType(int fd);

}  // namespace gmem::vhost::wire_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_WIRE_FILE_TYPE_H_
