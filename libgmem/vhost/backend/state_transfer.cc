// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/state_transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/poller.h"
#include "vhost/wire/file_type.h"

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
  // The signal also comes if the reader goes when a part is written.
  if (sigismember(&pending, SIGPIPE) == 0) {
    const timespec now = {};
    sigtimedwait(&pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = error;
  return written;
}

absl::Status PipeError() { return ErrnoError(errno, "the transfer of the device's state"); }

// @event: an eventfd of this process alone.
void Signal(const UniqueFd& event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event.get(), &one, sizeof(one));
}

bool MustWait() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

// The work of the thread, which has it alone until is_done().
class StateTransfer::Job {
 public:
  Job(UniqueFd fd, bool is_save, std::string bytes, UniqueFd wake, UniqueFd cancel)
      : fd_(std::move(fd)),
        is_save_(is_save),
        bytes_(std::move(bytes)),
        wake_(std::move(wake)),
        cancel_(std::move(cancel)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  void Run();

  // For the loop:
  void Cancel() {
    is_cancelled_ = true;
    Signal(cancel_);
  }
  bool is_done() const { return is_done_.load(std::memory_order_acquire); }
  // Bytes so far.
  uint64_t nr_moved() const { return nr_moved_; }
  bool is_save() const { return is_save_; }
  const absl::Status& result() const { return result_; }
  const std::string& bytes() const { return bytes_; }

 private:
  // True when the transfer has ended; then result_ is set.
  bool Send();
  bool Receive();

  UniqueFd fd_;
  const bool is_save_;
  // The state to send, or the bytes received so far.
  std::string bytes_;
  // Wakes the loop.
  const UniqueFd wake_;
  // Wakes the thread.
  const UniqueFd cancel_;
  absl::Status result_;
  std::atomic<uint64_t> nr_moved_ = 0;
  std::atomic<bool> is_cancelled_ = false;
  std::atomic<bool> is_done_ = false;
};

void StateTransfer::Job::Run() {
  std::array<pollfd, 2> polled = {pollfd{.fd = fd_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = cancel_.get(), .events = POLLIN, .revents = 0}};
  if (is_save_) polled[0].events = POLLOUT;
  while (!is_cancelled_) {
    poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0 && (is_save_ ? Send() : Receive())) break;
  }
  fd_.reset();
  // A state may be large, and the session long. clear() alone would keep the memory.
  if (is_save_ || !result_.ok() || is_cancelled_) std::string().swap(bytes_);
  is_done_.store(true, std::memory_order_release);
  Signal(wake_);
}

bool StateTransfer::Job::Send() {
  const size_t sent_before = nr_moved_;
  if (sent_before == bytes_.size()) return true;
  const ssize_t sent =
      WriteToPipe(fd_.get(), bytes_.data() + sent_before, bytes_.size() - sent_before);
  if (sent < 0) {
    if (MustWait()) return false;
    result_ = PipeError();
    return true;
  }
  nr_moved_ += static_cast<uint64_t>(sent);
  return nr_moved_ == bytes_.size();
}

bool StateTransfer::Job::Receive() {
  constexpr size_t kPiece = 65536;
  std::array<char, kPiece> piece;
  const ssize_t received = read(fd_.get(), piece.data(), piece.size());
  if (received < 0) {
    if (MustWait()) return false;
    result_ = PipeError();
    return true;
  }
  if (received == 0) return true;
  if (bytes_.size() + static_cast<size_t>(received) > Backend::kMaxStateSize) {
    result_ = CheckError(
        EFBIG, absl::StrCat("a device's state of more than ", Backend::kMaxStateSize, " bytes"));
    return true;
  }
  bytes_.append(piece.data(), static_cast<size_t>(received));
  nr_moved_ += static_cast<uint64_t>(received);
  return false;
}

absl::Status StateTransfer::NoTransfer() {
  return CheckError(EIO, "there was no transfer of the device's state");
}

absl::Status StateTransfer::Start(const DeviceStateTransfer& request, UniqueFd fd) {
  if (request.phase != TransferPhase::kStopped || request.direction > TransferDirection::kLoad) {
    return CheckError(EINVAL, "a transfer of the device's state of an unknown kind");
  }
  // Another descriptor may do anything when it is read: a signalfd, for example, takes this
  // process's signals.
  const std::optional<mode_t> type = wire_internal::FileType(fd.get());
  if (type != S_IFIFO && type != S_IFSOCK) {
    return CheckError(EINVAL, "the descriptor for the device's state is no pipe and no socket");
  }
  // Then the thread sees Cancel() in time, unless the front-end takes the flag away.
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return CheckError(EBADF, "can't use the descriptor for the device's state");
  }
  std::erase_if(jobs_, [](const std::weak_ptr<Job>& job) { return job.expired(); });
  if (jobs_.size() == kMaxThreads) {
    return CheckError(EBUSY, "earlier transfers of the device's state haven't ended yet");
  }
  const bool is_save = request.direction == TransferDirection::kSave;
  std::string bytes;
  if (is_save) {
    absl::StatusOr<std::string> state = device_.SaveState();
    if (!state.ok()) return CheckError(EIO, state.status().message());
    bytes = *std::move(state);
  }
  GMEM_ASSIGN_OR_RETURN(UniqueFd wake, poller_.DuplicateWake());
  UniqueFd cancel(eventfd(0, EFD_CLOEXEC));
  if (!cancel) return ErrnoError(errno, "can't begin a transfer of the device's state");
  const auto job = std::make_shared<Job>(std::move(fd), is_save, std::move(bytes), std::move(wake),
                                         std::move(cancel));
  GMEM_RETURN_IF_ERROR(device_.RunOnThread([job] { job->Run(); }));
  Stop();
  job_ = job;
  jobs_.push_back(job);
  result_ = absl::OkStatus();
  return absl::OkStatus();
}

void StateTransfer::Advance(bool has_started) {
  if (job_ == nullptr || !job_->is_done()) return;
  const std::shared_ptr<Job> job = std::exchange(job_, nullptr);
  result_ = job->result();
  if (!result_.ok() || job->is_save()) return;
  // The front-end can start virtqueues while the state comes.
  result_ = has_started ? CheckError(EBUSY, "the device's state has come while virtqueues work")
                        : device_.LoadState(job->bytes());
}

void StateTransfer::BeginWait() {
  if (job_ == nullptr) return;
  nr_moved_ = job_->nr_moved();
  deadline_ = internal::Uptime() + timeout_;
}

absl::Status StateTransfer::CheckTime() {
  if (job_ == nullptr || time_left() > absl::ZeroDuration()) return absl::OkStatus();
  if (job_->nr_moved() == nr_moved_) {
    return CheckError(ETIMEDOUT,
                      absl::StrCat("the transfer of the device's state stands still at ", nr_moved_,
                                   " bytes, for ", absl::FormatDuration(timeout_)));
  }
  BeginWait();
  return absl::OkStatus();
}

absl::Duration StateTransfer::time_left() const {
  return job_ == nullptr ? absl::InfiniteDuration() : deadline_ - internal::Uptime();
}

void StateTransfer::Stop() {
  if (job_ != nullptr) job_->Cancel();
  job_ = nullptr;
  deadline_ = absl::InfiniteDuration();
}

absl::Status StateTransfer::TakeResult() {
  Stop();
  return std::exchange(result_, NoTransfer());
}

}  // namespace gmem::vhost::backend_internal
