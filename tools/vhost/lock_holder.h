// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_LOCK_HOLDER_H_
#define GMEM_TOOLS_VHOST_LOCK_HOLDER_H_

#include <string>

// A process that has locked the file @fd, as "process 17 (qemu-system-x86)". The kernel tells that
// only of processes that the caller may look at; otherwise returns "another process".
std::string LockHolder(int fd);

#endif  // GMEM_TOOLS_VHOST_LOCK_HOLDER_H_
