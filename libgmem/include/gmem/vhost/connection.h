// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_CONNECTION_H_
#define GMEM_VHOST_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"

namespace gmem::vhost {

/// One channel of the protocol: a Unix stream socket that takes and gives whole
/// messages. Doesn't block: each call does what can be done now.
///
/// A message costs one sendmsg() and at most two recvmsg(). Descriptors are owned from
/// the moment of receipt, and close-on-exec; what is beyond kMaxFds is never received.
///
/// After an error the channel is of no more use: what follows in it can't be told apart.
///
/// Thread-compatible.
class Connection {
 public:
  /// Not connected.
  Connection() = default;

  /// Takes over a connected Unix stream socket, and makes it non-blocking.
  /// InvalidArgument (EINVAL) or the system's error if it isn't one.
  static absl::StatusOr<Connection> Adopt(UniqueFd socket);

  /// Connects to a listening socket by its path. While there is none (ENOENT,
  /// ECONNREFUSED), tries again until @p timeout is over: the one call here that blocks.
  static absl::StatusOr<Connection> Connect(const std::string& path,
                                            absl::Duration timeout = absl::ZeroDuration());

  /// Two, connected with each other: for a back-end in the same program, and to hand
  /// one to the peer (SET_BACKEND_REQ_FD).
  static absl::StatusOr<std::pair<Connection, UniqueFd>> Pair();

  /// For epoll: readable when Receive() may bring something, writable when Flush() may
  /// get on. -1 if not connected.
  int fd() const { return socket_.get(); }
  bool is_connected() const { return socket_.is_valid(); }

  /// Sends a message with descriptors, which stay the caller's. False if the socket is
  /// full: the peer doesn't read, and nothing was sent. If it takes only the beginning,
  /// that counts as sent, and Flush() sends the rest. Unavailable (ECONNRESET) if the
  /// peer is gone.
  absl::StatusOr<bool> Send(uint32_t request, uint32_t flags, absl::Span<const uint8_t> payload,
                            absl::Span<const int> fds = {});

  /// Is part of a message waiting for Flush()?
  bool has_unsent() const { return unsent_begin_ != unsent_.size(); }
  /// Sends what the socket takes of it; the same errors.
  absl::Status Flush();

  /// Receives into @p message. False if the whole of it isn't there yet: call again, with
  /// the same message, when fd() is readable. Unavailable (ECONNRESET) if the peer is
  /// gone, DataLoss (EBADMSG) if what came can't be a message: a payload beyond
  /// kMaxPayloadSize, too many descriptors, or some in its middle.
  absl::StatusOr<bool> Receive(Message& message);

  /// Closes the socket.
  void Close() { *this = Connection(); }

 private:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::StatusOr<bool> ReceiveHeader(Message& message);
  absl::StatusOr<bool> ReceivePayload(Message& message);

  UniqueFd socket_;
  // Bytes of the message that is being received, header and payload.
  size_t received_ = 0;
  // The last message, if the socket took only part of it: the one place that allocates.
  std::vector<uint8_t> unsent_;
  size_t unsent_begin_ = 0;
};

/// A listening Unix socket.
///
/// Thread-compatible.
class Listener {
 public:
  /// Makes the socket at @p path, replacing one that nobody listens on any more.
  /// AlreadyExists (EADDRINUSE) if somebody does, or if it is no socket.
  static absl::StatusOr<Listener> Create(const std::string& path);

  /// Takes over a listening socket, from a service manager for example.
  static absl::StatusOr<Listener> Adopt(UniqueFd socket);

  Listener(Listener&& other) noexcept
      : socket_(std::move(other.socket_)), path_(std::exchange(other.path_, {})) {}
  Listener& operator=(Listener&& other) noexcept;
  /// Removes the path that Create() made.
  ~Listener();

  /// For epoll: readable when Accept() may bring something.
  int fd() const { return socket_.get(); }

  /// The next peer, or nothing if there is none now.
  absl::StatusOr<std::optional<Connection>> Accept() const;

 private:
  Listener(UniqueFd socket, std::string path)
      : socket_(std::move(socket)), path_(std::move(path)) {}

  void Remove();

  UniqueFd socket_;
  std::string path_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_CONNECTION_H_
