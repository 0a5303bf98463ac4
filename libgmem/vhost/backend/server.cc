// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/server.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"

namespace gmem::vhost {

using internal::ErrnoError;

absl::StatusOr<Server> Server::Create(Listener listener, Device& device, absl::Duration timeout) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return ErrnoError(errno, "can't make a server's loop");
  Server server(std::move(listener), device, timeout, std::move(epoll));
  GMEM_RETURN_IF_ERROR(server.Watch(server.listener_.fd()));
  return server;
}

absl::Status Server::Watch(int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoError(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  return absl::OkStatus();
}

absl::Status Server::Process() {
  if (backend_ == nullptr) GMEM_RETURN_IF_ERROR(Accept());
  if (backend_ == nullptr) return absl::OkStatus();
  const absl::Status status = backend_->Process();
  if (status.ok()) return absl::OkStatus();
  EndSession(status);
  return Watch(listener_.fd());
}

absl::Status Server::Accept() {
  GMEM_ASSIGN_OR_RETURN(std::optional<Connection> connection, listener_.Accept());
  if (!connection) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      Backend::Create(*std::move(connection), *device_, timeout_);
  if (!backend.ok()) {
    if (session_end_) session_end_(backend.status());
    return absl::OkStatus();
  }
  GMEM_RETURN_IF_ERROR(Watch((*backend)->fd()));
  // Others wait until this one has gone.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
  backend_ = *std::move(backend);
  return absl::OkStatus();
}

void Server::EndSession(const absl::Status& status) {
  // Its epoll closes with it, and so leaves ours.
  backend_.reset();
  if (session_end_) session_end_(status);
}

absl::Status Server::Run(int stop_fd) {
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{.fd = fd(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = stop_fd, .events = POLLIN, .revents = 0}};
    constexpr absl::Duration kLongest = absl::Minutes(1);
    const absl::Duration left =
        std::clamp(next_deadline() - absl::Now(), absl::ZeroDuration(), kLongest);
    const auto timeout =
        static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    if (poll(fds.data(), fds.size(), timeout) < 0 && errno != EINTR) {
      return ErrnoError(errno, "can't wait");
    }
    if (fds[1].revents != 0) return absl::OkStatus();
    GMEM_RETURN_IF_ERROR(Process());
  }
}

}  // namespace gmem::vhost
