// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_SERVER_H_
#define GMEM_VHOST_SERVER_H_

#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/requester.h"

namespace gmem::vhost {

/// A device at a listening socket: serves one front-end at a time, and the next when that
/// is gone; others wait in the socket's queue.
///
/// Thread-compatible.
class Server {
 public:
  /// Told why a session has ended; ECONNRESET (Unavailable) is the usual end.
  using SessionEnd = absl::AnyInvocable<void(const absl::Status&)>;

  /// @p device must outlive the server.
  static absl::StatusOr<Server> Create(Listener listener, Device& device,
                                       absl::Duration timeout = kDefaultTimeout);

  void set_session_end(SessionEnd session_end) { session_end_ = std::move(session_end); }

  /// For epoll: readable when there is something to do.
  int fd() const { return epoll_.get(); }
  absl::Time next_deadline() const {
    return backend_ == nullptr ? absl::InfiniteFuture() : backend_->next_deadline();
  }
  /// Does what can be done now. An error is the socket's, and the end; that of a session
  /// isn't.
  absl::Status Process();

  /// Null if there is no session.
  Backend* backend() { return backend_.get(); }

  /// For programs that do nothing else: serves until @p stop_fd is readable (a signalfd,
  /// for example), if it isn't -1. Blocks.
  absl::Status Run(int stop_fd = -1);

 private:
  Server(Listener listener, Device& device, absl::Duration timeout, UniqueFd epoll)
      : listener_(std::move(listener)),
        device_(&device),
        timeout_(timeout),
        epoll_(std::move(epoll)) {}

  absl::Status Accept();
  absl::Status Watch(int fd);
  void EndSession(const absl::Status& status);

  Listener listener_;
  Device* device_;
  absl::Duration timeout_;
  UniqueFd epoll_;
  std::unique_ptr<Backend> backend_;
  SessionEnd session_end_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SERVER_H_
