// SPDX-License-Identifier: MIT OR Apache-2.0
#include "supervisor.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmem/unique_fd.h"

namespace {

// The first descriptor that a manager passes.
constexpr int kFirstFd = 3;

int NumberOf(const char* variable) {
  int number = 0;
  const char* const value = getenv(variable);
  return value != nullptr && absl::SimpleAtoi(value, &number) ? number : 0;
}

}  // namespace

absl::StatusOr<std::optional<gmem::UniqueFd>> PassedSocket() {
  const int nr_fds = NumberOf("LISTEN_FDS");
  // A process that this one starts must not take the variables as its own.
  const bool is_ours = NumberOf("LISTEN_PID") == getpid();
  for (const char* const name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) unsetenv(name);
  if (!is_ours || nr_fds <= 0) return std::nullopt;
  if (nr_fds > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the service manager passes ", nr_fds, " sockets: give a device one ListenStream= alone"));
  }
  if (fcntl(kFirstFd, F_SETFD, FD_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "can't use the service manager's socket");
  }
  return gmem::UniqueFd(kFirstFd);
}

absl::StatusOr<ServiceManager> ServiceManager::Find() {
  ServiceManager manager;
  const char* const value = getenv("NOTIFY_SOCKET");
  if (value == nullptr || *value == '\0') return manager;
  const std::string path = value;
  sockaddr_un& address = manager.address_;
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NOTIFY_SOCKET=", path, " is too long for the path of a socket"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  // The address of a socket without a path begins with a zero.
  if (path[0] == '@') address.sun_path[0] = '\0';
  manager.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  manager.socket_.reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!manager.socket_) return absl::ErrnoToStatus(errno, "can't make a socket");
  return manager;
}

absl::Status ServiceManager::Tell(absl::string_view state) const {
  if (!socket_) return absl::OkStatus();
  if (sendto(socket_.get(), state.data(), state.size(), MSG_NOSIGNAL,
             reinterpret_cast<const sockaddr*>(&address_), length_) < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't tell the service manager ", state));
  }
  return absl::OkStatus();
}
