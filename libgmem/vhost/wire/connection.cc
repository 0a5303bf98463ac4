// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/connection.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// The pause between two tries to connect.
constexpr absl::Duration kConnectPause = absl::Milliseconds(10);

using Control = std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))>;

bool IsFull(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

absl::Status PeerGone() { return CheckError(ECONNRESET, "the peer has closed the connection"); }

absl::Status SocketError(int error, const char* what) {
  if (error == EPIPE || error == ECONNRESET) return PeerGone();
  return ErrnoError(error, what);
}

absl::Status CheckUnixStream(int fd) {
  int domain = 0;
  int type = 0;
  socklen_t size = sizeof(domain);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) {
    return ErrnoError(errno, absl::StrCat("descriptor ", fd, " is not a socket"));
  }
  size = sizeof(type);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || domain != AF_UNIX ||
      type != SOCK_STREAM) {
    return CheckError(EINVAL, absl::StrCat("descriptor ", fd, " is not a Unix stream socket"));
  }
  return absl::OkStatus();
}

absl::Status MakeNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make descriptor ", fd, " non-blocking"));
  }
  return absl::OkStatus();
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return CheckError(EINVAL, absl::StrCat("\"", path, "\" can't be a socket's path: use 1 to ",
                                           sizeof(address.sun_path) - 1, " bytes"));
  }
  path.copy(address.sun_path, path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoError(errno, "can't make a socket");
  return socket;
}

// The system's calls take a sockaddr_un as a sockaddr.
const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

int ConnectTo(int fd, const sockaddr_un& address) {
  return connect(fd, Generic(address), sizeof(address)) == 0 ? 0 : errno;
}

int BindTo(int fd, const sockaddr_un& address) {
  return bind(fd, Generic(address), sizeof(address)) == 0 ? 0 : errno;
}

// While it lives, no other listener of this library makes or removes a socket in the same folder.
// Between bind() and listen(), a socket seems abandoned, so another listener would remove it; and
// one that goes would remove the socket that has just replaced its own.
class FolderLock {
 public:
  explicit FolderLock(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    folder_.reset(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    // Others may use this lock for something else, so don't wait for ever. Some file systems have
    // no locks.
    for (const absl::Time end = absl::Now() + absl::Seconds(1);
         folder_ && flock(folder_.get(), LOCK_EX | LOCK_NB) != 0 &&
         (errno == EWOULDBLOCK || errno == EINTR) && absl::Now() < end;) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }

 private:
  UniqueFd folder_;
};

// "a regular file", for an error at a path where a socket was expected; empty if it is a socket, or
// if nothing is there.
absl::string_view KindUnlessSocket(const std::string& path, bool follow_links) {
  struct stat state = {};
  if ((follow_links ? stat(path.c_str(), &state) : lstat(path.c_str(), &state)) != 0) return "";
  switch (state.st_mode & S_IFMT) {
    case S_IFSOCK:
      return "";
    case S_IFREG:
      return "a regular file";
    case S_IFDIR:
      return "a folder";
    case S_IFLNK:
      return "a symbolic link";
    case S_IFIFO:
      return "a FIFO";
    default:
      return "a device";
  }
}

// Removes the file at @address if it is a socket that a program has left behind: nobody answers
// there. Nobody answers at a file of another kind, either; that one stays.
absl::StatusOr<bool> RemoveAbandoned(const sockaddr_un& address) {
  // The descriptor keeps the file's number from a socket that replaces it meanwhile.
  const UniqueFd file(open(address.sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat old = {};
  struct stat now = {};
  if (!file || fstat(file.get(), &old) != 0 || !S_ISSOCK(old.st_mode)) return false;
  GMEM_ASSIGN_OR_RETURN(const UniqueFd probe, NewSocket());
  return ConnectTo(probe.get(), address) == ECONNREFUSED && lstat(address.sun_path, &now) == 0 &&
         now.st_dev == old.st_dev && now.st_ino == old.st_ino && unlink(address.sun_path) == 0;
}

// Moves the descriptors in @header's control data into @fds.
void TakeFds(msghdr& header, FdList& fds) {
  for (cmsghdr* cmsg = CMSG_FIRSTHDR(&header); cmsg != nullptr; cmsg = CMSG_NXTHDR(&header, cmsg)) {
    if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
      fds.Add(UniqueFd(fd));
    }
  }
}

// Returns the number of received bytes; 0 if none is there now. Moves descriptors into @fds, if
// that isn't null. The kernel drops descriptors for which the buffer has no room.
absl::StatusOr<size_t> ReceiveSome(int socket, absl::Span<uint8_t> into, FdList* fds) {
  alignas(cmsghdr) Control control;
  iovec iov = {.iov_base = into.data(), .iov_len = into.size()};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (fds != nullptr) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
  }
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (IsFull(errno)) return 0;
    return SocketError(errno, "can't receive");
  }
  if (fds != nullptr) TakeFds(header, *fds);
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    if (fds == nullptr) return CheckError(EBADMSG, "descriptors came in the middle of a message");
    // The buffer has room for more, so this process can't have them.
    if (fds->size() < kMaxFds) {
      return CheckError(EMFILE, absl::StrCat("this process can't take the descriptors of a ",
                                             "message: raise its limit of descriptors, or look ",
                                             "whether a security policy forbids them"));
    }
    return CheckError(EBADMSG,
                      absl::StrCat("more than ", kMaxFds, " descriptors came with one message"));
  }
  if (got == 0) return PeerGone();
  return static_cast<size_t>(got);
}

}  // namespace

absl::StatusOr<Connection> Connection::Adopt(UniqueFd socket) {
  GMEM_RETURN_IF_ERROR(CheckUnixStream(socket.get()));
  GMEM_RETURN_IF_ERROR(MakeNonBlocking(socket.get()));
  return Connection(std::move(socket));
}

absl::StatusOr<Connection> Connection::Connect(const std::string& path, absl::Duration timeout) {
  GMEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    GMEM_ASSIGN_OR_RETURN(UniqueFd socket, NewSocket());
    const int error = ConnectTo(socket.get(), address);
    if (error == 0) return Connection(std::move(socket));
    if (const auto kind = KindUnlessSocket(path, /*follow_links=*/true);
        error == ECONNREFUSED && !kind.empty()) {
      return CheckError(
          error, absl::StrCat("can't connect to ", path, ": it is ", kind, ", not a socket"));
    }
    // EAGAIN: the listener's queue is full.
    const bool may_come = error == ENOENT || error == ECONNREFUSED || IsFull(error);
    if (!may_come || absl::Now() + kConnectPause > deadline) {
      return ErrnoError(error, absl::StrCat("can't connect to ", path));
    }
    absl::SleepFor(kConnectPause);
  }
}

absl::StatusOr<std::pair<Connection, UniqueFd>> Connection::Pair() {
  std::array<int, 2> fds;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()) != 0) {
    return ErrnoError(errno, "can't make a pair of sockets");
  }
  UniqueFd other(fds[1]);
  return std::make_pair(Connection(UniqueFd(fds[0])), std::move(other));
}

absl::StatusOr<bool> Connection::Send(uint32_t request, uint32_t flags,
                                      absl::Span<const uint8_t> payload,
                                      absl::Span<const int> fds) {
  if (!is_connected()) return CheckError(ENOTCONN, "not connected");
  if (payload.size() > kMaxPayloadSize || fds.size() > kMaxFds) {
    return CheckError(
        EINVAL, absl::StrCat("a message has at most ", kMaxPayloadSize, " bytes and ", kMaxFds,
                             " descriptors, not ", payload.size(), " and ", fds.size()));
  }
  GMEM_RETURN_IF_ERROR(Flush());
  if (has_unsent()) return false;

  MessageHeader start = {
      .request = request, .flags = flags, .size = static_cast<uint32_t>(payload.size())};
  std::array<iovec, 2> iov = {
      iovec{.iov_base = &start, .iov_len = sizeof(start)},
      // sendmsg() only reads the payload.
      iovec{.iov_base = const_cast<uint8_t*>(payload.data()), .iov_len = payload.size()}};
  alignas(cmsghdr) Control control = {};
  msghdr header = {};
  header.msg_iov = iov.data();
  header.msg_iovlen = iov.size();
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const cmsg = CMSG_FIRSTHDR(&header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(cmsg), fds.data(), fds.size() * sizeof(int));
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (IsFull(errno)) return false;
    return SocketError(errno, "can't send");
  }
  const size_t total = sizeof(start) + payload.size();
  if (static_cast<size_t>(sent) < total) {
    unsent_.resize(total);
    std::memcpy(unsent_.data(), &start, sizeof(start));
    std::memcpy(unsent_.data() + sizeof(start), payload.data(), payload.size());
    unsent_begin_ = static_cast<size_t>(sent);
  }
  return true;
}

absl::Status Connection::Flush() {
  while (has_unsent()) {
    const ssize_t sent = send(socket_.get(), unsent_.data() + unsent_begin_,
                              unsent_.size() - unsent_begin_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (IsFull(errno)) return absl::OkStatus();
      return SocketError(errno, "can't send");
    }
    unsent_begin_ += static_cast<size_t>(sent);
  }
  unsent_.clear();
  unsent_begin_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<bool> Connection::Receive(Message& message) {
  if (!is_connected()) return CheckError(ENOTCONN, "not connected");
  if (received_ == 0) message.fds.Clear();
  if (received_ < sizeof(MessageHeader)) {
    GMEM_ASSIGN_OR_RETURN(const bool whole, ReceiveHeader(message));
    if (!whole) return false;
  }
  GMEM_ASSIGN_OR_RETURN(const bool whole, ReceivePayload(message));
  if (whole) received_ = 0;
  return whole;
}

absl::StatusOr<bool> Connection::ReceiveHeader(Message& message) {
  while (received_ < sizeof(MessageHeader)) {
    auto* const header = reinterpret_cast<uint8_t*>(&message.header);
    // Descriptors come with the first byte.
    GMEM_ASSIGN_OR_RETURN(
        const size_t got,
        ReceiveSome(socket_.get(), {header + received_, sizeof(MessageHeader) - received_},
                    received_ == 0 ? &message.fds : nullptr));
    if (got == 0) return false;
    received_ += got;
  }
  if (message.header.size > kMaxPayloadSize) {
    return CheckError(
        EBADMSG, absl::StrCat("message ", message.header.request, " announces a payload of ",
                              message.header.size, " bytes; the largest has ", kMaxPayloadSize));
  }
  return true;
}

absl::StatusOr<bool> Connection::ReceivePayload(Message& message) {
  const size_t end = sizeof(MessageHeader) + message.header.size;
  while (received_ < end) {
    uint8_t* const payload = message.payload.data() + (received_ - sizeof(MessageHeader));
    GMEM_ASSIGN_OR_RETURN(const size_t got,
                          ReceiveSome(socket_.get(), {payload, end - received_}, nullptr));
    if (got == 0) return false;
    received_ += got;
  }
  return true;
}

absl::StatusOr<Listener> Listener::Create(const std::string& path) {
  GMEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  GMEM_ASSIGN_OR_RETURN(UniqueFd socket, NewSocket());
  const FolderLock lock(path);
  int error = BindTo(socket.get(), address);
  if (error == EADDRINUSE) {
    GMEM_ASSIGN_OR_RETURN(const bool removed, RemoveAbandoned(address));
    if (removed) error = BindTo(socket.get(), address);
  }
  if (const auto kind = KindUnlessSocket(path, /*follow_links=*/false);
      error == EADDRINUSE && !kind.empty()) {
    return CheckError(error, absl::StrCat("can't listen at ", path, ": it is ", kind,
                                          ", not a socket: remove it or choose another path"));
  }
  if (error != 0) return ErrnoError(error, absl::StrCat("can't listen at ", path));
  struct stat state = {};
  if (lstat(path.c_str(), &state) != 0) {
    return ErrnoError(errno, absl::StrCat("can't listen at ", path));
  }
  Listener listener(std::move(socket), path);
  listener.device_ = state.st_dev;
  listener.inode_ = state.st_ino;
  if (listen(listener.fd(), SOMAXCONN) != 0) {
    return ErrnoError(errno, absl::StrCat("can't listen at ", path));
  }
  // A program that doesn't know the lock may have replaced the socket.
  if (!listener.OwnsPath()) {
    return CheckError(EADDRINUSE, absl::StrCat("can't listen at ", path, ": it was replaced"));
  }
  return listener;
}

absl::StatusOr<Listener> Listener::Adopt(UniqueFd socket) {
  GMEM_RETURN_IF_ERROR(CheckUnixStream(socket.get()));
  GMEM_RETURN_IF_ERROR(MakeNonBlocking(socket.get()));
  int listens = 0;
  socklen_t size = sizeof(listens);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) {
    return CheckError(EINVAL,
                      absl::StrCat("descriptor ", socket.get(), " is not a listening socket"));
  }
  return Listener(std::move(socket), {});
}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this != &other) {
    Remove();
    socket_ = std::move(other.socket_);
    path_ = std::exchange(other.path_, {});
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

Listener::~Listener() { Remove(); }

bool Listener::OwnsPath() const {
  struct stat state = {};
  return !path_.empty() && lstat(path_.c_str(), &state) == 0 && state.st_dev == device_ &&
         state.st_ino == inode_;
}

void Listener::Remove() {
  if (!OwnsPath()) return;
  const FolderLock lock(path_);
  if (OwnsPath()) unlink(path_.c_str());
}

absl::StatusOr<std::optional<Connection>> Listener::Accept() const {
  while (true) {
    UniqueFd socket(accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (IsFull(errno)) return std::nullopt;
      // The peer closed its end before accept().
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return ErrnoError(errno, "can't accept a connection");
    }
    GMEM_ASSIGN_OR_RETURN(Connection connection, Connection::Adopt(std::move(socket)));
    return std::optional<Connection>(std::move(connection));
  }
}

}  // namespace gmem::vhost
