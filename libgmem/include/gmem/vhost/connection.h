// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_CONNECTION_H_
#define GMEM_VHOST_CONNECTION_H_

#include <sys/types.h>

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

/// One channel of the protocol: a Unix stream socket that sends and receives whole messages. The
/// calls don't block: each does what it can do now.
///
/// A message costs one sendmsg() and at most two recvmsg(). The object owns received descriptors
/// from the start; they are close-on-exec. It never receives more than kMaxFds descriptors with a
/// message.
///
/// After an error the channel is useless, because the start of the next message isn't known.
///
/// Thread-compatible.
class Connection {
 public:
  /// Not connected.
  Connection() = default;

  /// Takes over a connected Unix stream socket, and makes it non-blocking. InvalidArgument
  /// (EINVAL), or the system's error, if @p socket isn't one.
  static absl::StatusOr<Connection> Adopt(UniqueFd socket);

  /// Connects to a listening socket by its path. While nobody listens there (ENOENT, ECONNREFUSED),
  /// tries again until @p timeout is over. This is the only call of the class that blocks.
  static absl::StatusOr<Connection> Connect(const std::string& path,
                                            absl::Duration timeout = absl::ZeroDuration());

  /// Returns both ends of a new connection. Use it for a back-end in the same program, and to send
  /// one end to the peer (SET_BACKEND_REQ_FD).
  static absl::StatusOr<std::pair<Connection, UniqueFd>> Pair();

  /// For epoll: readable when Receive() may return something, writable when Flush() may make
  /// progress. -1 if not connected.
  int fd() const { return socket_.get(); }
  bool is_connected() const { return socket_.is_valid(); }

  /// Sends a message. The caller keeps @p fds. False if the socket is full because the peer doesn't
  /// read; then nothing was sent. If the socket takes only the first part of the message, the
  /// result is true, and Flush() sends the rest. Unavailable (ECONNRESET) if the peer is gone.
  absl::StatusOr<bool> Send(uint32_t request, uint32_t flags, absl::Span<const uint8_t> payload,
                            absl::Span<const int> fds = {});

  /// Does part of a message wait for Flush()?
  bool has_unsent() const { return unsent_begin_ != unsent_.size(); }
  /// Sends as much of the waiting part as the socket takes. Fails as Send() does.
  absl::Status Flush();

  /// Receives into @p message. False if the message isn't complete yet: call again, with the same
  /// @p message, when fd() is readable. Unavailable (ECONNRESET) if the peer is gone. DataLoss
  /// (EBADMSG) if the bytes can't be a message: a payload beyond kMaxPayloadSize, too many
  /// descriptors, or descriptors in the middle of a message. ResourceExhausted (EMFILE) if this
  /// process can't have more descriptors.
  absl::StatusOr<bool> Receive(Message& message);

  /// Closes the socket.
  void Close() { *this = Connection(); }

 private:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::StatusOr<bool> ReceiveHeader(Message& message);
  absl::StatusOr<bool> ReceivePayload(Message& message);

  UniqueFd socket_;
  // Bytes received so far of the present message, header and payload.
  size_t received_ = 0;
  // The last message, if the socket took only part of it. This is the only place that allocates.
  std::vector<uint8_t> unsent_;
  size_t unsent_begin_ = 0;
};

/// A listening Unix socket.
///
/// Thread-compatible.
class Listener {
 public:
  /// Makes the socket at @p path, and replaces an old socket there if nobody listens on it.
  /// AlreadyExists (EADDRINUSE) if someone listens, or if @p path isn't a socket. Locks the folder
  /// (flock()) meanwhile, so that of several listeners that start at once one wins: waits up to a
  /// second for another one.
  static absl::StatusOr<Listener> Create(const std::string& path);

  /// Takes over a listening socket, for example from a service manager.
  static absl::StatusOr<Listener> Adopt(UniqueFd socket);

  Listener(Listener&& other) noexcept
      : socket_(std::move(other.socket_)),
        path_(std::exchange(other.path_, {})),
        device_(other.device_),
        inode_(other.inode_) {}
  Listener& operator=(Listener&& other) noexcept;
  /// Removes the path that Create() made, unless another file has taken its place.
  ~Listener();

  /// For epoll: readable when Accept() may return a peer.
  int fd() const { return socket_.get(); }

  /// Returns the next peer, or nothing if no peer waits.
  absl::StatusOr<std::optional<Connection>> Accept() const;

 private:
  Listener(UniqueFd socket, std::string path)
      : socket_(std::move(socket)), path_(std::move(path)) {}

  // Whether the file at the path is the one that Create() made.
  bool OwnsPath() const;
  void Remove();

  UniqueFd socket_;
  std::string path_;
  // The file that Create() made. The socket holds it, so no other file gets its number.
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_CONNECTION_H_
