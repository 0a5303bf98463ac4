// SPDX-License-Identifier: MIT OR Apache-2.0
// The clock for deadlines. Not installed.
#ifndef GMEM_BASE_UPTIME_H_
#define GMEM_BASE_UPTIME_H_

#include <ctime>

#include "absl/time/time.h"

#pragma GCC visibility push(hidden)
namespace gmem::internal {

// The time since some moment in the past. Nobody can set this clock, and it stops while the machine
// sleeps. So a peer never appears late because of a set clock or a sleep.
inline absl::Duration Uptime() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_UPTIME_H_
