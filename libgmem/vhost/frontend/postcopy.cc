// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/postcopy.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/memory_table.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// A read from another file could block, or take data that somebody else waits for.
bool IsUserfaultfd(int fd) {
  std::array<char, PATH_MAX> link;
  const ssize_t size =
      readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), link.data(), link.size());
  return size > 0 &&
         absl::string_view(link.data(), static_cast<size_t>(size)) == "anon_inode:[userfaultfd]";
}

// Reads the next event; false if there is none. The back-end has the same open file: at any time it
// can make the file blocking, and read events itself.
absl::StatusOr<bool> ReadEvent(int fd, uffd_msg& message) {
  // poll() of a blocking userfaultfd says POLLERR.
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  if (poll(&polled, 1, 0) == 0) return false;
  if ((polled.revents & POLLIN) == 0) {
    return CheckError(EBADF, "the back-end's userfaultfd is blocking or broken");
  }
  // Never waits, since Linux 6.10. An older kernel doesn't know RWF_NOWAIT here: a back-end that
  // makes the file blocking between poll() and read() stops this thread until it has a fault.
  iovec into = {.iov_base = &message, .iov_len = sizeof(message)};
  ssize_t got = preadv2(fd, &into, 1, -1, RWF_NOWAIT);
  if (got < 0 && errno == EOPNOTSUPP) got = read(fd, &message, sizeof(message));
  if (got == sizeof(message)) return true;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  return ErrnoError(got < 0 ? errno : EIO, "can't read a userfaultfd");
}

// The guest address of the back-end's @client_address, if that lies in @region.
std::optional<GuestAddress> Translate(const SharedRegion& region, uint64_t client_address) {
  if (!region.client_address || client_address < *region.client_address) return std::nullopt;
  const uint64_t offset = client_address - *region.client_address;
  if (offset >= region.wire.size) return std::nullopt;
  return GuestAddress(region.wire.guest_address + offset);
}

}  // namespace

absl::StatusOr<Faults> Faults::Adopt(UniqueFd userfaultfd) {
  if (!IsUserfaultfd(userfaultfd.get())) {
    return CheckError(EINVAL, absl::StrCat("descriptor ", userfaultfd.get(), " is no userfaultfd"));
  }
  const int flags = fcntl(userfaultfd.get(), F_GETFL);
  if (flags < 0 || fcntl(userfaultfd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoError(errno, "can't make a userfaultfd non-blocking");
  }
  return Faults(std::move(userfaultfd));
}

absl::StatusOr<std::optional<Faults::Fault>> Faults::Next(
    absl::Span<const SharedRegion> regions) const {
  for (int i = 0; i < kMaxEventsAtOnce; i++) {
    uffd_msg message;
    GMEM_ASSIGN_OR_RETURN(const bool is_there, ReadEvent(fd(), message));
    if (!is_there) break;
    // The event carries the userfaultfd of a child, which this process owns now: close it.
    if (message.event == UFFD_EVENT_FORK) UniqueFd(static_cast<int>(message.arg.fork.ufd)).reset();
    if (message.event != UFFD_EVENT_PAGEFAULT) continue;

    const uint64_t address = message.arg.pagefault.address & ~(HostPageSize().value() - 1);
    for (const SharedRegion& region : regions) {
      const std::optional<GuestAddress> guest_address = Translate(region, address);
      if (!guest_address) continue;
      return Fault{.client_address = address,
                   .guest_address = *guest_address,
                   .write = (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE) != 0};
    }
    return CheckError(ENOENT, absl::StrCat("the back-end waits at its address 0x",
                                           absl::Hex(address), ", where it has no guest memory"));
  }
  return std::nullopt;
}

absl::Status Faults::Wake(absl::Span<const SharedRegion> regions, GuestRange range) const {
  for (const SharedRegion& region : regions) {
    if (!region.client_address) continue;
    const GuestAddress start(std::max(range.start.value(), region.wire.guest_address));
    const GuestAddress end(
        std::min(range.end().value(), region.wire.guest_address + region.wire.size));
    if (start >= end) continue;
    uffdio_range wake = {
        .start = *region.client_address + (start.value() - region.wire.guest_address),
        .len = (end - start).value()};
    // ENOENT: the back-end hasn't registered the range, so no thread waits there.
    if (ioctl(fd(), UFFDIO_WAKE, &wake) != 0 && errno != ENOENT) {
      return ErrnoError(errno, absl::StrCat("can't wake the threads that wait for ",
                                            ToString(GuestRange{start, end - start})));
    }
  }
  return absl::OkStatus();
}

}  // namespace gmem::vhost
