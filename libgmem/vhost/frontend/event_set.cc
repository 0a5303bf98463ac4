// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/event_set.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "gmem/unique_fd.h"

namespace gmem::vhost::frontend_internal {
namespace {

// Rounds up: a poll() that returns early would spin through the last millisecond.
int ToMilliseconds(absl::Duration duration) {
  const int64_t rounded_up = absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(rounded_up, 0, INT_MAX));
}

}  // namespace

absl::Status EventSet::Open() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (epoll_.is_valid()) return absl::OkStatus();
  return internal::ErrnoError(errno, "can't make an epoll descriptor");
}

void EventSet::Watch(int socket, uint32_t events, Entry& entry) const {
  if (events == entry.events) return;
  epoll_event event = {};
  event.events = events;
  const int operation = entry.events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (epoll_ctl(epoll_.get(), operation, socket, &event) == 0) entry.events = events;
}

void EventSet::Wait(absl::Duration timeout) const {
  pollfd polled = {.fd = epoll_.get(), .events = POLLIN, .revents = 0};
  poll(&polled, 1, ToMilliseconds(timeout));
}

}  // namespace gmem::vhost::frontend_internal
