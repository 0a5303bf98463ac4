// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
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
#include "vhost/backend/lanes.h"
#include "vhost/backend/run_loop.h"

namespace gmem::vhost {

using internal::CheckError;
using internal::ErrnoError;

namespace {

// Fails unless this process may have @count descriptors more; @fd is one of its own.
absl::Status CheckRoom(int fd, size_t count) {
  std::vector<UniqueFd> room;
  for (size_t i = 0; i < count; i++) {
    GMEM_ASSIGN_OR_RETURN(room.emplace_back(), UniqueFd::Duplicate(fd));
  }
  return absl::OkStatus();
}

// Takes a connection only if there is room for @nr_more descriptors behind it and for its own: it
// can't be put back.
absl::StatusOr<std::optional<Connection>> AcceptWithRoom(const Listener& listener, size_t nr_more) {
  GMEM_RETURN_IF_ERROR(CheckRoom(listener.fd(), nr_more + 1));
  return listener.Accept();
}

absl::StatusOr<UniqueFd> NewLoop() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return ErrnoError(errno, "can't make a server's loop");
  return epoll;
}

}  // namespace

class __attribute__((visibility("hidden"))) Server::Impl {
 public:
  // Without a @listener, connects to @path.
  Impl(std::optional<Listener> listener, std::string path, Device& device, const Options& options,
       UniqueFd epoll)
      : listener_(std::move(listener)),
        path_(std::move(path)),
        device_(device),
        options_(options),
        epoll_(std::move(epoll)) {}

  void set_session_end(SessionEnd session_end) { session_end_ = std::move(session_end); }
  int fd() const { return epoll_.get(); }
  Backend* backend() const { return is_ending_ ? nullptr : backend_.get(); }

  // Begins to wait for front-ends.
  absl::Status Listen() { return Watch(EPOLL_CTL_ADD, listener_->fd(), EPOLLIN); }
  absl::Time next_deadline() const {
    const Backend* const served = backend();
    const absl::Time session = served == nullptr ? absl::InfiniteFuture() : served->next_deadline();
    const absl::Duration own = std::min({listen_again_, session_deadline_, connect_again()});
    return std::min(session, absl::Now() + (own - internal::Uptime()));
  }
  absl::Status Process();

 private:
  absl::Status Watch(int operation, int fd, uint32_t events);
  // Waits for front-ends or lets them wait. Needs no memory, so it doesn't fail for a lack of that.
  absl::Status SetListening(bool is_listening);
  // The next front-end that waits, if this process may have @nr_more descriptors behind its own. If
  // this process or the system is short of something, waits with the next try: the front-end stays
  // in the socket's queue.
  absl::StatusOr<std::optional<Connection>> TakeFrontend(size_t nr_more);
  absl::Status ListenAgain();
  // The front-end that listens at path_, if it is time for a try.
  std::optional<Connection> ConnectAgain(size_t nr_more);
  // When that is, a time of Uptime().
  absl::Duration connect_again() const {
    return listener_ || backend_ != nullptr ? absl::InfiniteDuration() : connect_again_;
  }
  absl::Status BeginSession();
  // Refuses a front-end that has come while another one is served.
  absl::Status RefuseOthers();
  absl::Status EndSession(const absl::Status& status);
  // Goes on with a session's end when no thread is in a call of the device.
  absl::Status FinishSession();
  void Report(const absl::Status& status) {
    if (session_end_) session_end_(status);
  }

  const std::optional<Listener> listener_;
  const std::string path_;
  Device& device_;
  const Options options_;
  UniqueFd epoll_;
  // Otherwise the loop doesn't wait for the listening socket, which stays readable.
  bool is_listening_ = true;
  // When to listen again, a time of Uptime(); infinite without a shortage.
  absl::Duration listen_again_ = absl::InfiniteDuration();
  // When to report a refused front-end again, a time of Uptime(): they may come fast.
  absl::Duration report_again_ = -absl::InfiniteDuration();
  // The last try has met a shortage, or found nobody to connect to, which is reported.
  bool was_short_ = false;
  // When to try to connect, a time of Uptime().
  absl::Duration connect_again_ = -absl::InfiniteDuration();
  // When the session must have ended, a time of Uptime(); infinite without a session.
  absl::Duration session_deadline_ = absl::InfiniteDuration();
  // The session has ended, but a thread is in a call of the device.
  bool is_ending_ = false;
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
  if (!listener_) return absl::OkStatus();
  return Watch(EPOLL_CTL_MOD, listener_->fd(), is_listening ? EPOLLIN : 0U);
}

absl::StatusOr<std::optional<Connection>> Server::Impl::TakeFrontend(size_t nr_more) {
  if (!listener_) return ConnectAgain(nr_more);
  pollfd waiting = {.fd = listener_->fd(), .events = POLLIN, .revents = 0};
  if (!is_listening_ || poll(&waiting, 1, 0) <= 0) return std::nullopt;
  constexpr absl::Duration kPause = absl::Milliseconds(100);
  absl::StatusOr<std::optional<Connection>> connection = AcceptWithRoom(*listener_, nr_more);
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

std::optional<Connection> Server::Impl::ConnectAgain(size_t nr_more) {
  if (internal::Uptime() < connect_again_) return std::nullopt;
  connect_again_ = internal::Uptime() + options_.reconnect_interval;
  // One more for the connection.
  const absl::Status room = CheckRoom(epoll_.get(), nr_more + 1);
  absl::StatusOr<Connection> connection =
      room.ok() ? Connection::Connect(path_) : absl::StatusOr<Connection>(room);
  const bool was_short = std::exchange(was_short_, !connection.ok());
  if (connection.ok()) return *std::move(connection);
  if (!was_short) Report(connection.status());
  return std::nullopt;
}

absl::Status Server::Impl::Process() {
  if (is_ending_) return FinishSession();
  GMEM_RETURN_IF_ERROR(ListenAgain());
  if (backend_ == nullptr) GMEM_RETURN_IF_ERROR(BeginSession());
  if (backend_ == nullptr) return absl::OkStatus();
  const absl::Status status = backend_->Process();
  if (!status.ok()) return EndSession(status);
  if (session_deadline_ <= internal::Uptime()) {
    return EndSession(
        CheckError(ETIMEDOUT, absl::StrCat("the session hasn't ended after ",
                                           absl::FormatDuration(options_.session_timeout))));
  }
  return RefuseOthers();
}

absl::Status Server::Impl::RefuseOthers() {
  if (!listener_) return absl::OkStatus();
  pollfd others = {.fd = listener_->fd(), .events = POLLIN, .revents = 0};
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

absl::Status Server::Impl::BeginSession() {
  // Those that a session begins with, besides its connection.
  const size_t nr_fds = backend_internal::Lanes::CountFds(device_, options_.has_queue_threads);
  GMEM_ASSIGN_OR_RETURN(std::optional<Connection> connection, TakeFrontend(nr_fds));
  if (!connection) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Backend>> backend =
      Backend::Create(*std::move(connection), device_,
                      Backend::Options{.timeout = options_.timeout,
                                       .has_queue_threads = options_.has_queue_threads});
  absl::Status status = backend.status();
  if (status.ok()) status = Watch(EPOLL_CTL_ADD, (*backend)->fd(), EPOLLIN);
  if (!status.ok()) {
    Report(status);
    return absl::OkStatus();
  }
  backend_ = *std::move(backend);
  session_deadline_ = internal::Uptime() + options_.session_timeout;
  return absl::OkStatus();
}

absl::Status Server::Impl::EndSession(const absl::Status& status) {
  session_deadline_ = absl::InfiniteDuration();
  is_ending_ = true;
  const absl::Status finished = FinishSession();
  Report(status);
  return finished;
}

absl::Status Server::Impl::FinishSession() {
  // The next front-end waits, without keeping the loop busy.
  if (!backend_->can_end()) return SetListening(false);
  // This closes the back-end's epoll instance, so the kernel removes that from epoll_.
  backend_.reset();
  is_ending_ = false;
  connect_again_ = internal::Uptime() + options_.reconnect_interval;
  if (is_listening_ || listen_again_ != absl::InfiniteDuration()) return absl::OkStatus();
  return SetListening(true);
}

absl::StatusOr<Server> Server::Create(Listener listener, Device& device, absl::Duration timeout) {
  return Create(std::move(listener), device, Options{.timeout = timeout});
}

absl::StatusOr<Server> Server::Create(Listener listener, Device& device, const Options& options) {
  GMEM_ASSIGN_OR_RETURN(UniqueFd epoll, NewLoop());
  auto impl =
      std::make_unique<Impl>(std::move(listener), std::string(), device, options, std::move(epoll));
  GMEM_RETURN_IF_ERROR(impl->Listen());
  return Server(std::move(impl));
}

absl::StatusOr<Server> Server::Connect(std::string path, Device& device, const Options& options) {
  if (path.empty() || path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return CheckError(EINVAL, absl::StrCat("can't connect to a path of ", path.size(),
                                           " bytes: a socket's path has 1 to ",
                                           sizeof(sockaddr_un{}.sun_path) - 1));
  }
  GMEM_ASSIGN_OR_RETURN(UniqueFd epoll, NewLoop());
  return Server(
      std::make_unique<Impl>(std::nullopt, std::move(path), device, options, std::move(epoll)));
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
absl::Status Server::Run(int stop_fd) { return backend_internal::RunLoop(*impl_, stop_fd); }

}  // namespace gmem::vhost
