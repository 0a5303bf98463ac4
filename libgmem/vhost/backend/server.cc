// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/server.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"

namespace gmem::vhost {

using internal::CheckError;
using internal::ErrnoError;

namespace {

// The descriptors that a session begins with, besides its connection.
constexpr size_t kSessionFds = 2;

// Takes a connection only if this process may have @nr_more descriptors behind it: it can't be put
// back.
absl::StatusOr<std::optional<Connection>> AcceptWithRoom(const Listener& listener, size_t nr_more) {
  std::vector<UniqueFd> room;
  for (size_t i = 0; i < nr_more; i++) {
    GMEM_ASSIGN_OR_RETURN(room.emplace_back(), UniqueFd::Duplicate(listener.fd()));
  }
  return listener.Accept();
}

}  // namespace

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

  // Begins to wait for front-ends.
  absl::Status Listen() { return Watch(EPOLL_CTL_ADD, listener_.fd(), EPOLLIN); }
  absl::Time next_deadline() const {
    const absl::Time session =
        backend_ == nullptr ? absl::InfiniteFuture() : backend_->next_deadline();
    return std::min(session, absl::Now() + (listen_again_ - internal::Uptime()));
  }
  absl::Status Process();
  absl::Status Run(int stop_fd);

 private:
  absl::Status Watch(int operation, int fd, uint32_t events);
  // Waits for front-ends or lets them wait. Needs no memory, so it doesn't fail for a lack of that.
  absl::Status SetListening(bool is_listening);
  // The next front-end that waits, if this process may have @nr_more descriptors behind its own. If
  // this process or the system is short of something, waits with the next try: the front-end stays
  // in the socket's queue.
  absl::StatusOr<std::optional<Connection>> TakeFrontend(size_t nr_more);
  absl::Status ListenAgain();
  absl::Status Accept();
  // Refuses a front-end that has come while another one is served.
  absl::Status RefuseOthers();
  absl::Status EndSession(const absl::Status& status);
  void Report(const absl::Status& status) {
    if (session_end_) session_end_(status);
  }

  Listener listener_;
  Device& device_;
  const absl::Duration timeout_;
  UniqueFd epoll_;
  // Otherwise the loop doesn't wait for the listening socket, which stays readable.
  bool is_listening_ = true;
  // When to listen again, a time of Uptime(); infinite without a shortage.
  absl::Duration listen_again_ = absl::InfiniteDuration();
  // When to report a refused front-end again, a time of Uptime(): they may come fast.
  absl::Duration report_again_ = -absl::InfiniteDuration();
  // The last try has met a shortage, which is reported.
  bool was_short_ = false;
  std::unique_ptr<Backend> backend_;
  SessionEnd session_end_;
};

absl::Status Server::Impl::Watch(int operation, int fd, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  if (epoll_ctl(epoll_.get(), operation, fd, &event) != 0) {
    return ErrnoError(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  return absl::OkStatus();
}

absl::Status Server::Impl::SetListening(bool is_listening) {
  is_listening_ = is_listening;
  listen_again_ = absl::InfiniteDuration();
  return Watch(EPOLL_CTL_MOD, listener_.fd(), is_listening ? EPOLLIN : 0U);
}

absl::StatusOr<std::optional<Connection>> Server::Impl::TakeFrontend(size_t nr_more) {
  pollfd waiting = {.fd = listener_.fd(), .events = POLLIN, .revents = 0};
  if (!is_listening_ || poll(&waiting, 1, 0) <= 0) return std::nullopt;
  constexpr absl::Duration kPause = absl::Milliseconds(100);
  absl::StatusOr<std::optional<Connection>> connection = AcceptWithRoom(listener_, nr_more);
  if (connection.ok()) {
    was_short_ = false;
    return connection;
  }
  const int error = GetErrno(connection.status()).value_or(0);
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM) return connection;
  GMEM_RETURN_IF_ERROR(SetListening(false));
  listen_again_ = internal::Uptime() + kPause;
  if (!std::exchange(was_short_, true)) Report(connection.status());
  return std::nullopt;
}

absl::Status Server::Impl::ListenAgain() {
  if (is_listening_ || internal::Uptime() < listen_again_) return absl::OkStatus();
  return SetListening(true);
}

absl::Status Server::Impl::Process() {
  GMEM_RETURN_IF_ERROR(ListenAgain());
  if (backend_ == nullptr) GMEM_RETURN_IF_ERROR(Accept());
  if (backend_ == nullptr) return absl::OkStatus();
  const absl::Status status = backend_->Process();
  if (status.ok()) return RefuseOthers();
  return EndSession(status);
}

absl::Status Server::Impl::RefuseOthers() {
  pollfd others = {.fd = listener_.fd(), .events = POLLIN, .revents = 0};
  // One in each call: the session has other work, too.
  if (!is_listening_ || poll(&others, 1, 0) <= 0) return absl::OkStatus();
  // The next one waits, without keeping the loop busy: the session may last.
  if (backend_->has_frontend_gone()) return SetListening(false);
  GMEM_ASSIGN_OR_RETURN(const std::optional<Connection> other, TakeFrontend(0));
  constexpr absl::Duration kPause = absl::Seconds(1);
  if (other && internal::Uptime() >= report_again_) {
    report_again_ = internal::Uptime() + kPause;
    Report(CheckError(EBUSY, "a front-end was refused: the device already serves another one"));
  }
  return absl::OkStatus();
}

absl::Status Server::Impl::Accept() {
  GMEM_ASSIGN_OR_RETURN(std::optional<Connection> connection, TakeFrontend(kSessionFds));
  if (!connection) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      Backend::Create(*std::move(connection), device_, timeout_);
  absl::Status status = backend.status();
  if (status.ok()) status = Watch(EPOLL_CTL_ADD, (*backend)->fd(), EPOLLIN);
  if (!status.ok()) {
    Report(status);
    return absl::OkStatus();
  }
  backend_ = *std::move(backend);
  return absl::OkStatus();
}

absl::Status Server::Impl::EndSession(const absl::Status& status) {
  // This closes the back-end's epoll instance, so the kernel removes that from epoll_.
  backend_.reset();
  Report(status);
  if (is_listening_ || listen_again_ != absl::InfiniteDuration()) return absl::OkStatus();
  return SetListening(true);
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
