// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_BUDGET_H_
#define GMEM_VHOST_BUDGET_H_

#include <cstddef>

namespace gmem::vhost {

/// The mappings and descriptors that front-ends may make the back-ends of this process hold, all
/// sessions together. Each session has limits of its own, but many sessions could still use up
/// those of the process, and then its other parts and its other sessions fail. A request beyond the
/// budget is refused instead, with ResourceExhausted (ENOMEM or EMFILE).
struct Budget {
  /// Mappings of guest memory, logs and inflight buffers. A region counts as two, because it
  /// splits the range of addresses that is reserved for it.
  size_t mappings = 0;
  /// Descriptors that are kept: kicks, calls, errors, logs and inflight buffers.
  size_t descriptors = 0;
};

/// The budget of this process. The default is seven eighths of the system's limits for a process
/// (vm.max_map_count, and the soft limit RLIMIT_NOFILE at the time of the request).
Budget ProcessBudget();
/// Replaces it; 0 stands for the default. The sessions keep all that they hold already.
void SetProcessBudget(const Budget& budget);
/// The mappings and descriptors that the sessions hold now.
Budget UsedBudget();

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BUDGET_H_
