// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"

namespace gmem::vhost::backend_internal {

using internal::ErrnoError;

absl::StatusOr<Poller> Poller::Create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake) return ErrnoError(errno, "can't make a loop for a session");
  Poller poller(std::move(epoll), std::move(wake));
  GMEM_RETURN_IF_ERROR(poller.Add(poller.wake_.get(), EPOLLIN, Source::kWake));
  return poller;
}

absl::Status Poller::Control(int operation, int fd, uint32_t events, Source source,
                             uint32_t index) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = static_cast<uint64_t>(source) << 32 | index;
  if (epoll_ctl(epoll_.get(), operation, fd, &event) != 0) {
    return ErrnoError(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  return absl::OkStatus();
}

absl::Status Poller::Add(int fd, uint32_t events, Source source, uint32_t index) {
  return Control(EPOLL_CTL_ADD, fd, events, source, index);
}

absl::Status Poller::Change(int fd, uint32_t events, Source source) {
  return Control(EPOLL_CTL_MOD, fd, events, source, 0);
}

void Poller::Remove(int fd) {
  if (fd >= 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Poller::Wake() {
  const uint64_t one = 1;
  // The counter can't be full: each Poll() empties it.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

absl::StatusOr<absl::Span<const Poller::Event>> Poller::Poll(absl::Duration timeout) {
  std::array<epoll_event, kMaxEvents> ready;
  // Negative: without an end.
  const int milliseconds =
      timeout == absl::InfiniteDuration()
          ? -1
          : static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1))));
  const int count = epoll_wait(epoll_.get(), ready.data(), kMaxEvents, milliseconds);
  if (count < 0 && errno != EINTR) return ErrnoError(errno, "can't wait for a session's events");
  size_t nr_events = 0;
  for (int i = 0; i < count; i++) {
    const uint64_t data = ready[i].data.u64;
    events_[nr_events++] = {.source = static_cast<Source>(data >> 32),
                            .index = static_cast<uint32_t>(data),
                            .is_hangup = (ready[i].events & (EPOLLHUP | EPOLLERR)) != 0};
    if (events_[nr_events - 1].source != Source::kWake) continue;
    uint64_t value = 0;
    [[maybe_unused]] const ssize_t got = read(wake_.get(), &value, sizeof(value));
  }
  return absl::MakeConstSpan(events_.data(), nr_events);
}

}  // namespace gmem::vhost::backend_internal
