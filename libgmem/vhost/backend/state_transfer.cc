// SPDX-License-Identifier: Apache-2.0
#include "vhost/backend/state_transfer.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/poller.h"

namespace gmem::vhost::backend_internal {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// Writes to a pipe whose reader may have gone, without SIGPIPE. The kernel sends that signal to
// this thread: block it, and take it away unless it was pending before.
ssize_t WriteToPipe(int fd, const char* from, size_t size) {
  sigset_t pipe, old, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &pipe, &old);
  const ssize_t written = write(fd, from, size);
  const int error = errno;
  if (written < 0 && error == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec now = {};
    sigtimedwait(&pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = error;
  return written;
}

absl::Status PipeError() { return ErrnoError(errno, "the transfer of the device's state"); }

bool MustWait() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

absl::Status StateTransfer::NoTransfer() {
  return CheckError(EIO, "there was no transfer of the device's state");
}

absl::Status StateTransfer::Start(const DeviceStateTransfer& request, UniqueFd fd) {
  if (request.phase != TransferPhase::kStopped || request.direction > TransferDirection::kLoad) {
    return CheckError(EINVAL, "a transfer of the device's state of an unknown kind");
  }
  const bool is_save = request.direction == TransferDirection::kSave;
  std::string bytes;
  if (is_save) {
    absl::StatusOr<std::string> state = device_.SaveState();
    if (!state.ok()) return CheckError(EIO, state.status().message());
    bytes = *std::move(state);
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      !poller_.Add(fd.get(), is_save ? EPOLLOUT : EPOLLIN, Poller::Source::kState).ok()) {
    return CheckError(EBADF, "can't use the descriptor for the device's state");
  }
  Stop();
  fd_ = std::move(fd);
  is_save_ = is_save;
  bytes_ = std::move(bytes);
  nr_sent_ = 0;
  result_ = absl::OkStatus();
  return absl::OkStatus();
}

void StateTransfer::Advance() {
  if (!is_under_way()) return;
  if (is_save_ ? Send() : Receive()) Stop();
}

bool StateTransfer::Send() {
  if (nr_sent_ == bytes_.size()) return true;
  const ssize_t sent = WriteToPipe(fd_.get(), bytes_.data() + nr_sent_, bytes_.size() - nr_sent_);
  if (sent < 0) {
    if (MustWait()) return false;
    result_ = PipeError();
    return true;
  }
  nr_sent_ += static_cast<size_t>(sent);
  return nr_sent_ == bytes_.size();
}

bool StateTransfer::Receive() {
  constexpr size_t kPiece = 65536;
  std::array<char, kPiece> piece;
  const ssize_t received = read(fd_.get(), piece.data(), piece.size());
  if (received < 0) {
    if (MustWait()) return false;
    result_ = PipeError();
    return true;
  }
  if (received == 0) {
    result_ = device_.LoadState(bytes_);
    return true;
  }
  if (bytes_.size() + static_cast<size_t>(received) > Backend::kMaxStateSize) {
    result_ = CheckError(
        EFBIG, absl::StrCat("a device's state of more than ", Backend::kMaxStateSize, " bytes"));
    return true;
  }
  bytes_.append(piece.data(), static_cast<size_t>(received));
  return false;
}

void StateTransfer::Stop() {
  poller_.Remove(fd_.get());
  fd_.reset();
  // clear() alone keeps the memory, of up to kMaxStateSize, until the session ends.
  bytes_.clear();
  bytes_.shrink_to_fit();
}

absl::Status StateTransfer::TakeResult() {
  Stop();
  return std::exchange(result_, NoTransfer());
}

}  // namespace gmem::vhost::backend_internal
