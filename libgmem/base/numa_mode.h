// SPDX-License-Identifier: MIT OR Apache-2.0
// The kernel's names for the modes of a NUMA policy. Not installed.
#ifndef GMEM_BASE_NUMA_MODE_H_
#define GMEM_BASE_NUMA_MODE_H_

#include <linux/mempolicy.h>

#include "gmem/numa_policy.h"

#pragma GCC visibility push(hidden)
namespace gmem::internal {

inline int KernelMode(NumaMode mode) {
  switch (mode) {
    case NumaMode::kDefault:
      return MPOL_DEFAULT;
    case NumaMode::kPreferred:
      return MPOL_PREFERRED;
    case NumaMode::kBind:
      return MPOL_BIND;
    case NumaMode::kInterleave:
      return MPOL_INTERLEAVE;
  }
  return MPOL_DEFAULT;
}

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_NUMA_MODE_H_
