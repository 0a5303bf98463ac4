// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_SERVER_H_
#define GMEM_VHOST_SERVER_H_

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/requester.h"

namespace gmem::vhost {

/// A device at a listening socket. It serves one front-end at a time. It closes the connection of
/// another one at once: a front-end that waits would seem to hang. Only behind a front-end that has
/// closed its end, the next one waits for the session's last work.
///
/// Or a device that connects to a front-end's listening socket, and connects again whenever the
/// session has ended (Connect()).
///
/// Thread-compatible.
class Server {
 public:
  /// Gets the reason why a session has ended, for the log; the usual one is Unavailable
  /// (ECONNRESET): the front-end has closed its socket. Also gets the reason why a session couldn't
  /// begin: FailedPrecondition (EBUSY), at most once a second, for a front-end that came while
  /// another one was served; ResourceExhausted (EMFILE, ENFILE, ENOBUFS, ENOMEM) if the process or
  /// the system is short of descriptors or memory. Such a front-end waits, and the server tries
  /// again and again. With Connect(), gets the reason why there is no connection, once until there
  /// was one.
  using SessionEnd = absl::AnyInvocable<void(const absl::Status&)>;

  struct Options {
    /// How long a front-end may take to answer a request.
    absl::Duration timeout = kDefaultTimeout;
    /// Serve the virtqueues on threads, see Backend.
    bool has_queue_threads = false;
    /// How long a session may last. Then it ends with DeadlineExceeded (ETIMEDOUT), and the next
    /// one may begin.
    absl::Duration session_timeout = absl::InfiniteDuration();
    /// Connect(): the pause between two tries, and between a session's end and the next try.
    absl::Duration reconnect_interval = absl::Milliseconds(200);
  };

  /// @p device must outlive the server. @p timeout is how long a front-end may take to
  /// answer a request.
  static absl::StatusOr<Server> Create(Listener listener, Device& device,
                                       absl::Duration timeout = kDefaultTimeout);
  static absl::StatusOr<Server> Create(Listener listener, Device& device, const Options& options);
  /// Connects to the listening socket of a front-end at @p path, from Process() on: the front-end
  /// need not be there yet. InvalidArgument (EINVAL) if @p path is empty, or too long for a socket.
  static absl::StatusOr<Server> Connect(std::string path, Device& device, const Options& options);
  Server(Server&& other) noexcept;
  Server& operator=(Server&& other) noexcept;
  ~Server();

  void set_session_end(SessionEnd session_end);

  /// For epoll: readable when Process() has work to do.
  int fd() const;
  /// The time of the next Process(), if fd() isn't readable before.
  absl::Time next_deadline() const;
  /// Does the work that can be done now. An error in a session ends only that session. This method
  /// fails only if the listening socket fails, which ends the server. After a session's end, the
  /// next one waits for calls of the device on the threads of virtqueues.
  absl::Status Process();

  /// Null without a session.
  Backend* backend();

  /// For programs without a loop of their own: serves until @p stop_fd, for example a signalfd, is
  /// readable; for ever if it is -1. Blocks.
  absl::Status Run(int stop_fd = -1);

 private:
  class Impl;

  explicit Server(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SERVER_H_
