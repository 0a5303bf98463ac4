// SPDX-License-Identifier: MIT OR Apache-2.0
#include "control.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "command.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "guest.h"

namespace broker {
namespace {

// A peer is disconnected if it lets the broker wait longer than that, in sum, for room for the
// answers to what the broker has received at once.
constexpr absl::Duration kPatience = absl::Seconds(1);

// The time since the start of the system: nobody sets this clock.
absl::Duration Uptime() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

// Sends the text, and takes the time that it waits from @patience. False, with errno, if the peer
// is gone, or doesn't read.
bool Send(int socket, absl::string_view text, absl::Duration& patience) {
  while (!text.empty()) {
    const ssize_t sent = send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      text.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (errno != EAGAIN && errno != EINTR) return false;
    const absl::Duration start = Uptime();
    pollfd fd = {.fd = socket, .events = POLLOUT, .revents = 0};
    const int64_t left = absl::ToInt64Milliseconds(std::max(patience, absl::ZeroDuration()));
    if (poll(&fd, 1, static_cast<int>(left)) == 0) {
      errno = ETIMEDOUT;
      return false;
    }
    patience -= Uptime() - start;
  }
  return true;
}

absl::StatusOr<gmem::UniqueFd> Connect(const std::string& path) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("the path ", path, " is too long for a socket"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  gmem::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    struct stat state = {};
    if (error == ECONNREFUSED && stat(path.c_str(), &state) == 0 && !S_ISSOCK(state.st_mode)) {
      return absl::FailedPreconditionError(
          absl::StrCat("can't connect to ", path, ": it is not a socket"));
    }
    errno = error;
    return absl::ErrnoToStatus(errno, absl::StrCat("can't connect to ", path));
  }
  return socket;
}

// Prints a line of an answer. Returns the status of the command if it is the last line.
absl::StatusOr<bool> PrintLine(absl::string_view line) {
  if (absl::ConsumePrefix(&line, kError)) return absl::InternalError(line);
  const bool is_last = line == kOk || absl::StartsWith(line, absl::StrCat(kOk, ": "));
  if (is_last && line == kOk) return true;
  std::cout << tools::Printable(is_last ? line.substr(kOk.size() + 2) : line) << "\n";
  return is_last;
}

}  // namespace

absl::StatusOr<Control> Control::Listen(const std::string& path) {
  const mode_t old_mask = umask(S_IRWXG | S_IRWXO | S_IXUSR);
  absl::StatusOr<gmem::vhost::Listener> listener = gmem::vhost::Listener::Create(path);
  umask(old_mask);
  if (!listener.ok()) return listener.status();
  return Control(*std::move(listener));
}

int Control::AddTo(std::vector<pollfd>& fds) const {
  const bool is_full = peers_.size() >= kMaxPeers;
  if (!is_full) {
    fds.push_back({.fd = listener_.fd(), .events = POLLIN, .revents = 0});
  }
  for (const Peer& peer : peers_) {
    fds.push_back({.fd = peer.socket.get(), .events = POLLIN, .revents = 0});
  }
  return is_full ? static_cast<int>(absl::ToInt64Milliseconds(kPatience)) : -1;
}

void Control::Process(Guest& guest) {
  peers_.remove_if([&guest](Peer& peer) { return !Serve(peer, guest); });
  if (peers_.size() >= kMaxPeers) {
    const absl::Duration now = Uptime();
    peers_.remove_if([now](const Peer& peer) { return now - peer.last_command >= kMaxSilence; });
  }
  Accept();
}

void Control::Accept() {
  while (peers_.size() < kMaxPeers) {
    gmem::UniqueFd socket(accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) return;
    peers_.push_back({.socket = std::move(socket), .line = {}, .last_command = Uptime()});
  }
}

// Returns false if the peer is gone.
bool Control::Serve(Peer& peer, Guest& guest) {
  char buffer[kMaxCommand + 1];
  const ssize_t size = recv(peer.socket.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) return false;
  peer.line.append(buffer, static_cast<size_t>(size));
  absl::Duration patience = kPatience;
  for (size_t end = peer.line.find('\n'); end != std::string::npos; end = peer.line.find('\n')) {
    const std::string answer = RunCommand(guest, peer.line.substr(0, end));
    if (!Send(peer.socket.get(), answer, patience)) return false;
    peer.line.erase(0, end + 1);
    peer.last_command = Uptime();
  }
  if (peer.line.size() <= kMaxCommand) return true;
  Send(peer.socket.get(), absl::StrCat(kError, "the command is too long\n"), patience);
  return false;
}

absl::Status Tell(const std::string& path, absl::string_view command) {
  const absl::StatusOr<gmem::UniqueFd> socket = Connect(path);
  if (!socket.ok()) return socket.status();
  absl::Duration patience = kPatience;
  if (!Send(socket->get(), absl::StrCat(command, "\n"), patience)) {
    return absl::ErrnoToStatus(errno, absl::StrCat("can't send to ", path));
  }
  std::string answer;
  for (;;) {
    char buffer[4096];
    const ssize_t size = recv(socket->get(), buffer, sizeof(buffer), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return absl::ErrnoToStatus(errno, "can't receive the answer");
    if (size == 0) return absl::UnavailableError("the broker ended before it answered");
    answer.append(buffer, static_cast<size_t>(size));
    for (size_t end = answer.find('\n'); end != std::string::npos; end = answer.find('\n')) {
      const absl::StatusOr<bool> is_last = PrintLine(absl::string_view(answer).substr(0, end));
      if (!is_last.ok()) return is_last.status();
      if (*is_last) return absl::OkStatus();
      answer.erase(0, end + 1);
    }
  }
}

}  // namespace broker
