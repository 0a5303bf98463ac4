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

class __attribute__((visibility("hidden"))) Server::Impl {
 public:
  Impl(Listener listener, Device& device, absl::Duration timeout, UniqueFd epoll)
      : listener_(std::move(listener)),
        device_(device),
        timeout_(timeout),
        epoll_(std::move(epoll)) {}

  void set_session_end(SessionEnd session_end) { session_end_ = std::move(session_end); }
  int fd() const { return epoll_.get(); }
  Backend* backend() const { return backend_.get(); }

  // Waits for front-ends.
  absl::Status Listen() { return Watch(listener_.fd()); }
  absl::Time next_deadline() const {
    return backend_ == nullptr ? absl::InfiniteFuture() : backend_->next_deadline();
  }
  absl::Status Process();
  absl::Status Run(int stop_fd);

 private:
  absl::Status Watch(int fd);
  absl::Status Accept();
  void EndSession(const absl::Status& status);

  Listener listener_;
  Device& device_;
  const absl::Duration timeout_;
  UniqueFd epoll_;
  std::unique_ptr<Backend> backend_;
  SessionEnd session_end_;
};

absl::Status Server::Impl::Watch(int fd) {
  epoll_event event = {};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoError(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  return absl::OkStatus();
}

absl::Status Server::Impl::Process() {
  if (backend_ == nullptr) GMEM_RETURN_IF_ERROR(Accept());
  if (backend_ == nullptr) return absl::OkStatus();
  const absl::Status status = backend_->Process();
  if (status.ok()) return absl::OkStatus();
  EndSession(status);
  return Watch(listener_.fd());
}

absl::Status Server::Impl::Accept() {
  GMEM_ASSIGN_OR_RETURN(std::optional<Connection> connection, listener_.Accept());
  if (!connection) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      Backend::Create(*std::move(connection), device_, timeout_);
  if (!backend.ok()) {
    if (session_end_) session_end_(backend.status());
    return absl::OkStatus();
  }
  GMEM_RETURN_IF_ERROR(Watch((*backend)->fd()));
  // Other front-ends wait until this session ends.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
  backend_ = *std::move(backend);
  return absl::OkStatus();
}

void Server::Impl::EndSession(const absl::Status& status) {
  // This closes the back-end's epoll instance, so the kernel removes that from epoll_.
  backend_.reset();
  if (session_end_) session_end_(status);
}

absl::Status Server::Impl::Run(int stop_fd) {
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

absl::StatusOr<Server> Server::Create(Listener listener, Device& device, absl::Duration timeout) {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return ErrnoError(errno, "can't make a server's loop");
  auto impl = std::make_unique<Impl>(std::move(listener), device, timeout, std::move(epoll));
  GMEM_RETURN_IF_ERROR(impl->Listen());
  return Server(std::move(impl));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::Server(Server&& other) noexcept = default;
Server& Server::operator=(Server&& other) noexcept = default;
Server::~Server() = default;

void Server::set_session_end(SessionEnd session_end) {
  impl_->set_session_end(std::move(session_end));
}
int Server::fd() const { return impl_->fd(); }
absl::Time Server::next_deadline() const { return impl_->next_deadline(); }
absl::Status Server::Process() { return impl_->Process(); }
Backend* Server::backend() { return impl_->backend(); }
absl::Status Server::Run(int stop_fd) { return impl_->Run(stop_fd); }

}  // namespace gmem::vhost
