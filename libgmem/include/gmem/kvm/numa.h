// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_KVM_NUMA_H_
#define GMEM_KVM_NUMA_H_

#include <vector>

#include "absl/status/status.h"
#include "gmem/types.h"

namespace gmem::kvm {

/// Where the pages of a file come from; set_mempolicy(2) has the meaning of each.
enum class NumaMode {
  /// From where whoever allocates a page would get its own. No nodes.
  kDefault,
  /// From the node given, or another if that has none left. One node.
  kPreferred,
  /// From the nodes given, or not at all.
  kBind,
  /// From the nodes given, in turns.
  kInterleave,
};

struct NumaPolicy {
  NumaMode mode = NumaMode::kDefault;
  /// Numbers of the host's nodes (/sys/devices/system/node), 0 to 1023.
  std::vector<int> nodes;
};

/// Sets the policy of a range of a file, for whoever allocates its pages: host, guest or
/// GuestMemfd::Allocate(). Pages that are there stay where they are, so set it first.
/// Whole pages.
///
/// The file must keep a policy of its own, as memfds and tmpfs do, and guest_memfds that
/// can be mapped from Linux 6.19 on. Elsewhere mbind(2) would be obeyed by one mapping in
/// one process only, and not by the guest: Unimplemented (EOPNOTSUPP), so is a host
/// without NUMA. InvalidArgument: a node that the host doesn't have or this process may
/// not use, a mode without its nodes; nothing has changed then.
///
/// Thread-safe.
absl::Status SetNumaPolicy(int fd, ByteRange range, const NumaPolicy& policy);

}  // namespace gmem::kvm

#endif  // GMEM_KVM_NUMA_H_
