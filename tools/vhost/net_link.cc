// SPDX-License-Identifier: MIT OR Apache-2.0
#include "net_link.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

namespace {

// Removes the first @size bytes. The pieces may have less.
absl::Span<iovec> SkipBytes(absl::Span<iovec> pieces, size_t size) {
  while (!pieces.empty() && size >= pieces.front().iov_len) {
    size -= pieces.front().iov_len;
    pieces.remove_prefix(1);
  }
  if (!pieces.empty()) {
    pieces.front().iov_base = static_cast<uint8_t*>(pieces.front().iov_base) + size;
    pieces.front().iov_len -= size;
  }
  return pieces;
}

// The error of a system call for a link. The kernel says EINVAL for a tap of another kind, which is
// no mistake in the command line.
absl::Status Unusable(absl::string_view what) {
  return absl::FailedPreconditionError(absl::ErrnoToStatus(errno, what).message());
}

}  // namespace

absl::StatusOr<std::vector<NetLink>> NetLink::OpenTap(const std::string& name, size_t count) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\": the name of a tap has 1 to ", IFNAMSIZ - 1, " bytes"));
  }
  std::vector<NetLink> links;
  for (size_t i = 0; i < count; i++) {
    gmem::UniqueFd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return absl::ErrnoToStatus(errno, "can't open /dev/net/tun");
    ifreq request = {};
    std::copy(name.begin(), name.end(), request.ifr_name);
    const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (count > 1 ? IFF_MULTI_QUEUE : 0);
    request.ifr_flags = static_cast<int16_t>(flags);
    if (ioctl(fd.get(), TUNSETIFF, &request) != 0) {
      return Unusable(absl::StrCat(
          "can't use the tap ", name, " with ", count, " queues: it must be free, have ",
          count > 1 ? "\"multi_queue vnet_hdr\"" : "\"vnet_hdr\" and no \"multi_queue\"",
          ", and be made for this user (ip tuntap add ... user) unless the user has ",
          "CAP_NET_ADMIN"));
    }
    links.push_back(NetLink(std::move(fd), /*is_tap=*/true, count > 1));
  }
  return links;
}

absl::StatusOr<NetLink> NetLink::Adopt(gmem::UniqueFd fd) {
  ifreq request = {};
  if (ioctl(fd.get(), TUNGETIFF, &request) == 0) {
    constexpr int kNeeded = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if ((request.ifr_flags & kNeeded) != kNeeded) {
      return absl::FailedPreconditionError(
          absl::StrCat("descriptor ", fd.get(), " must be a tap with IFF_NO_PI and IFF_VNET_HDR"));
    }
    const int flags = fcntl(fd.get(), F_GETFL);
    if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("can't use descriptor ", fd.get()));
    }
    return NetLink(std::move(fd), /*is_tap=*/true, (request.ifr_flags & IFF_MULTI_QUEUE) != 0);
  }
  int type = 0;
  socklen_t size = sizeof(type);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
    return Unusable(absl::StrCat("descriptor ", fd.get(), " is neither a tap nor a socket"));
  }
  if (type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the socket of descriptor ", fd.get(), " must be of type SOCK_DGRAM or SOCK_SEQPACKET"));
  }
  NetLink link(std::move(fd), /*is_tap=*/false, /*has_queues=*/false);
  link.is_datagram_ = type == SOCK_DGRAM;
  return link;
}

absl::Status NetLink::SetHeaderSize(int size) {
  header_size_ = static_cast<size_t>(size);
  if (is_tap_ && ioctl(fd(), TUNSETVNETHDRSZ, &size) != 0) {
    return absl::ErrnoToStatus(errno, "the tap refuses the size of headers");
  }
  return absl::OkStatus();
}

absl::Status NetLink::SetOffloads(unsigned offloads) const {
  if (is_tap_ && ioctl(fd(), TUNSETOFFLOAD, static_cast<unsigned long>(offloads)) != 0) {
    return absl::ErrnoToStatus(errno, "the tap refuses offloads");
  }
  return absl::OkStatus();
}

void NetLink::SetAttached(bool is_attached) {
  if (!has_queues_ || is_attached == is_attached_) return;
  ifreq request = {};
  request.ifr_flags = is_attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
  // If that fails, the tap has gone, which Receive() finds out.
  if (ioctl(fd(), TUNSETQUEUE, &request) == 0) is_attached_ = is_attached;
}

void NetLink::Send(absl::Span<iovec> pieces) const {
  if (!is_tap_) pieces = SkipBytes(pieces, header_size_);
  if (pieces.empty() || pieces.size() > IOV_MAX) return;
  // A frame that isn't sent is lost, as in any network.
  [[maybe_unused]] ssize_t sent = 0;
  if (is_tap_) {
    sent = writev(fd(), pieces.data(), static_cast<int>(pieces.size()));
    return;
  }
  msghdr message = {};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  sent = sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

absl::StatusOr<std::optional<size_t>> NetLink::Receive(absl::Span<uint8_t> to) const {
  if (!is_tap_) std::fill_n(to.begin(), header_size_, 0);
  const absl::Span<uint8_t> frame = is_tap_ ? to : to.subspan(header_size_);
  const ssize_t size = is_tap_ ? read(fd(), frame.data(), frame.size())
                               : recv(fd(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_TRUNC);
  if (size < 0) {
    // The error of a datagram socket is that of a frame sent earlier, which has found nobody.
    // Somebody may come.
    if (errno == EAGAIN || errno == EINTR || is_datagram_) return std::nullopt;
    return absl::ErrnoToStatus(errno, "the link has failed");
  }
  // An empty datagram is no frame, and no end either.
  if (size == 0 && is_datagram_) return std::optional<size_t>(0);
  if (size == 0) return absl::UnavailableError("the other end of the link was closed");
  // Too large for any driver.
  if (static_cast<size_t>(size) > frame.size()) return std::optional<size_t>(0);
  return static_cast<size_t>(frame.data() - to.data()) + static_cast<size_t>(size);
}
