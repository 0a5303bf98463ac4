// SPDX-License-Identifier: MIT OR Apache-2.0
#include "watches.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmem/unique_fd.h"

absl::StatusOr<Watches> Watches::Create() {
  gmem::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return absl::ErrnoToStatus(errno, "can't wait for descriptors");
  return Watches(std::move(epoll));
}

absl::Status Watches::Watch(int fd, Ready ready) {
  if (ready_.contains(fd)) return absl::OkStatus();
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  ready_[fd] = std::make_shared<Ready>(std::move(ready));
  return absl::OkStatus();
}

void Watches::Unwatch(int fd) {
  if (ready_.erase(fd) != 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Watches::Process() {
  std::array<epoll_event, 16> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  for (int i = 0; i < count; i++) {
    const auto found = ready_.find(events[i].data.fd);
    // An earlier callback may have unwatched it.
    if (found == ready_.end()) continue;
    const std::shared_ptr<Ready> ready = found->second;
    (*ready)();
  }
}
