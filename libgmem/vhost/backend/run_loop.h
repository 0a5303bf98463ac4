// SPDX-License-Identifier: MIT OR Apache-2.0
// The loop for programs that have none of their own. Not installed.
#ifndef GMEM_VHOST_BACKEND_RUN_LOOP_H_
#define GMEM_VHOST_BACKEND_RUN_LOOP_H_

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// Calls @served's Process() until @stop_fd is readable (-1: never), or until it fails.
template <typename Served>
absl::Status RunLoop(Served& served, int stop_fd) {
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{.fd = served.fd(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = stop_fd, .events = POLLIN, .revents = 0}};
    constexpr absl::Duration kLongest = absl::Minutes(1);
    const absl::Duration left =
        std::clamp(served.next_deadline() - absl::Now(), absl::ZeroDuration(), kLongest);
    const auto timeout =
        static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    if (poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) {
      return internal::ErrnoError(errno, "can't wait");
    }
    if (fds[1].revents != 0) return absl::OkStatus();
    GMEM_RETURN_IF_ERROR(served.Process());
  }
}

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_RUN_LOOP_H_
