// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/fd_store.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "kvm/fd_name.h"

namespace gmem::kvm {
namespace {

absl::Status NoAnswer(absl::Duration timeout) {
  return absl::DeadlineExceededError(
      absl::StrCat("the service manager didn't answer in ", absl::FormatDuration(timeout)));
}

}  // namespace

absl::StatusOr<FdStore> FdStore::Open(const char* notify_socket) {
  if (!notify_socket) {
    return absl::FailedPreconditionError(
        "$NOTIFY_SOCKET isn't set: no service manager started this process, or its unit has "
        "NotifyAccess=none");
  }
  std::string address(notify_socket);
  const bool is_path = absl::StartsWith(address, "/");
  const bool is_abstract = absl::StartsWith(address, "@") && address.size() > 1;
  // $NOTIFY_SOCKET may also name a vsock address, which can't carry descriptors.
  if (!is_path && !is_abstract) {
    return internal::CheckError(EOPNOTSUPP,
                                absl::StrCat("$NOTIFY_SOCKET is \"", absl::CHexEscape(address),
                                             "\", neither a path nor an abstract socket"));
  }
  if (address.size() >= sizeof(sockaddr_un::sun_path)) {
    return internal::CheckError(ENAMETOOLONG,
                                absl::StrCat("$NOTIFY_SOCKET has ", address.size(),
                                             " characters, more than a socket address can have"));
  }
  if (is_abstract) address[0] = '\0';
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return internal::ErrnoError(errno, "can't make a socket");
  return FdStore(std::move(socket), std::move(address));
}

absl::Status FdStore::Send(int socket, absl::string_view message, int fd) const {
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());

  iovec data = {const_cast<char*>(message.data()), message.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr header = {};
  header.msg_name = &to;
  header.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(fd));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  }

  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return absl::OkStatus();
  return internal::ErrnoError(errno, "can't send to the service manager");
}

absl::Status FdStore::Store(absl::string_view name, int fd) const {
  GMEM_RETURN_IF_ERROR(internal::CheckFdName(name));
  if (fd < 0) {
    return internal::CheckError(EBADF,
                                absl::StrCat("can't store descriptor ", fd, ": it isn't open"));
  }
  return Send(socket_.get(), absl::StrCat("FDSTORE=1\nFDNAME=", name), fd);
}

absl::Status FdStore::Remove(absl::string_view name) const {
  GMEM_RETURN_IF_ERROR(internal::CheckFdName(name));
  return Send(socket_.get(), absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name), -1);
}

// Sends one end of a pipe to the manager. The manager closes it after all earlier messages, and the
// other end shows that.
absl::Status FdStore::Sync(absl::Duration timeout) const {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return internal::ErrnoError(errno, "can't make a pipe");
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  const absl::Time deadline = absl::Now() + timeout;
  // Sending may block, because the manager's queue may be full. Use another socket with a time
  // limit, because Store() in other threads must have none.
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return internal::ErrnoError(errno, "can't make a socket");
  // 0 would mean no limit.
  const timeval limit = absl::ToTimeval(std::max(timeout, absl::Microseconds(1)));
  if (setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
    return internal::ErrnoError(errno, "can't limit the time for sending");
  }
  const absl::Status sent = Send(socket.get(), "BARRIER=1", out.get());
  if (GetErrno(sent) == EAGAIN) return NoAnswer(timeout);
  GMEM_RETURN_IF_ERROR(sent);
  out.reset();

  for (;;) {
    const int64_t left = absl::ToInt64Milliseconds(
        absl::Ceil(std::max(deadline - absl::Now(), absl::ZeroDuration()), absl::Milliseconds(1)));
    pollfd poll_fd = {in.get(), 0, 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left, INT_MAX)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return internal::ErrnoError(errno, "can't wait for a pipe");
    if (ready == 0 && absl::Now() >= deadline) {
      return NoAnswer(timeout);
    }
  }
}

}  // namespace gmem::kvm
