// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/wire/event_signal.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/uptime.h"
#include "vhost/wire/file_type.h"

namespace gmem::vhost::wire_internal {

EventSignaler::~EventSignaler() {
  if (context_ != 0) syscall(SYS_io_destroy, context_);
}

void EventSignaler::Open() {
  if (context_ != 0 || internal::Uptime() < open_again_) return;
  constexpr absl::Duration kPause = absl::Milliseconds(100);
  open_again_ = internal::Uptime() + kPause;
  if (!file_) file_.reset(memfd_create("gmem-vhost-signal", MFD_CLOEXEC));
  if (!file_ || syscall(SYS_io_setup, kMaxResults, &context_) != 0) context_ = 0;
}

bool EventSignaler::Submit(int fd) {
  iocb request = {};
  request.aio_lio_opcode = IOCB_CMD_PREAD;
  request.aio_fildes = static_cast<uint32_t>(file_.get());
  request.aio_flags = IOCB_FLAG_RESFD;
  request.aio_resfd = static_cast<uint32_t>(fd);
  iocb* const requests = &request;
  return syscall(SYS_io_submit, context_, 1, &requests) == 1;
}

void EventSignaler::CollectResults() {
  std::array<io_event, kMaxResults> results;
  timespec now = {};
  syscall(SYS_io_getevents, context_, 0, results.size(), results.data(), &now);
  nr_results_ = 0;
}

absl::Status EventSignaler::Signal(int fd) {
  Open();
  if (context_ != 0) {
    if (nr_results_ == kMaxResults) CollectResults();
    // Reading nothing is done at once.
    nr_results_++;
    if (Submit(fd)) return absl::OkStatus();
  }
  // A counter that has no room for more is a signal already.
  pollfd event = {.fd = fd, .events = POLLOUT, .revents = 0};
  if (poll(&event, 1, 0) >= 0 && (event.revents & (POLLOUT | POLLNVAL)) == 0) {
    return absl::OkStatus();
  }
  // The peer may have cleared the flag.
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  constexpr uint64_t kOne = 1;
  if (write(fd, &kOne, sizeof(kOne)) == sizeof(kOne) || errno == EAGAIN) return absl::OkStatus();
  return internal::ErrnoError(errno, absl::StrCat("can't signal descriptor ", fd));
}

bool IsEventfd(int fd) {
  std::array<char, 32> link;
  const ssize_t size =
      readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), link.data(), link.size());
  if (size > 0) {
    return absl::string_view(link.data(), static_cast<size_t>(size)) == "anon_inode:[eventfd]";
  }
  return FileType(fd) == mode_t{0};
}

}  // namespace gmem::vhost::wire_internal
