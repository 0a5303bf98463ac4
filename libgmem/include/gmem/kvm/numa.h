// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_NUMA_H_
#define GMEM_KVM_NUMA_H_

#include "absl/status/status.h"
#include "gmem/numa_policy.h"
#include "gmem/types.h"

namespace gmem::kvm {

using NumaMode = ::gmem::NumaMode;
using NumaPolicy = ::gmem::NumaPolicy;

/// Sets the policy of a range of a file. The policy applies to all pages that host, guest or
/// GuestMemfd::Allocate() allocate later. Pages that are allocated already stay where they are, so
/// set the policy first. The range consists of whole pages.
///
/// The file must store a policy of its own. memfds and tmpfs files do, and so do guest_memfds that
/// can be mapped, since Linux 6.19. A guestmem gets its policy from Device::CreateGuestMemory(), or
/// by mbind(2), which the kernel can't confirm here. For other files, mbind(2) would affect only one mapping in one
/// process, and not the guest: the call is Unimplemented (EOPNOTSUPP), as it is on a host without
/// NUMA. InvalidArgument, without any change, if a node doesn't exist or this process may not use
/// it, or if the list of nodes doesn't suit the mode.
///
/// Thread-safe.
absl::Status SetNumaPolicy(int fd, ByteRange range, const NumaPolicy& policy);

}  // namespace gmem::kvm

#endif  // GMEM_KVM_NUMA_H_
