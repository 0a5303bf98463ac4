// SPDX-License-Identifier: MIT OR Apache-2.0
// Helpers that tests and fuzzers of sockets share. Not installed.
#ifndef GMEM_VHOST_TESTING_SOCKET_H_
#define GMEM_VHOST_TESTING_SOCKET_H_

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

// A time limit for events that come at once unless the machine is busy.
inline constexpr absl::Duration kPatience = absl::Seconds(30);

// The time until the next deadline. In this order: the deadline counts from a look at the clock.
template <typename Loop>
absl::Duration TimeLeft(const Loop& loop) {
  const absl::Time deadline = loop.next_deadline();
  return deadline - absl::Now();
}

inline constexpr int kPatienceMilliseconds = 30000;

inline size_t CountOpenFds() {
  using std::filesystem::directory_iterator;
  return static_cast<size_t>(
      std::distance(directory_iterator("/proc/self/fd"), directory_iterator()));
}

// While it lives, this process can have at most @left more descriptors.
class NoMoreFds {
 public:
  explicit NoMoreFds(size_t left = 0) {
    if (getrlimit(RLIMIT_NOFILE, &before_) != 0) abort();
    std::vector<UniqueFd> lowest;
    for (size_t i = 0; i <= left; i++) lowest.emplace_back(eventfd(0, EFD_CLOEXEC));
    const rlimit none = {.rlim_cur = static_cast<rlim_t>(lowest.back().get()),
                         .rlim_max = before_.rlim_max};
    if (!lowest.back() || setrlimit(RLIMIT_NOFILE, &none) != 0) abort();
  }
  NoMoreFds(const NoMoreFds&) = delete;
  NoMoreFds& operator=(const NoMoreFds&) = delete;
  ~NoMoreFds() {
    if (setrlimit(RLIMIT_NOFILE, &before_) != 0) abort();
  }

 private:
  rlimit before_ = {};
};

// The most descriptors that the kernel sends with one message.
inline constexpr size_t kMostFds = 253;

// Sends raw bytes and descriptors, which a correct peer might not send. Returns the result of
// sendmsg().
inline ssize_t SendRaw(int socket, absl::Span<const uint8_t> bytes, absl::Span<const int> fds = {},
                       int flags = 0) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostFds * sizeof(int))> control = {};
  // sendmsg() only reads the bytes.
  iovec iov = {.iov_base = const_cast<uint8_t*>(bytes.data()), .iov_len = bytes.size()};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* const cmsg = CMSG_FIRSTHDR(&header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(cmsg), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(socket, &header, MSG_NOSIGNAL | flags);
}

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_SOCKET_H_
