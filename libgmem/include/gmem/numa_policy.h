// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_NUMA_POLICY_H_
#define GMEM_NUMA_POLICY_H_

#include <vector>

namespace gmem {

/// Where the pages of a file come from; see set_mempolicy(2) for each mode.
enum class NumaMode {
  /// From the nodes that the allocating thread's own policy selects. Needs an empty list of nodes.
  kDefault,
  /// From the given node, or from another if that node has no memory left. Needs one node.
  kPreferred,
  /// Only from the given nodes.
  kBind,
  /// From the given nodes in turn.
  kInterleave,
};

struct NumaPolicy {
  NumaMode mode = NumaMode::kDefault;
  /// Numbers of the host's nodes (/sys/devices/system/node), 0 to 1023.
  std::vector<int> nodes = {};
};

}  // namespace gmem

#endif  // GMEM_NUMA_POLICY_H_
