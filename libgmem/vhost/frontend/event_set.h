// SPDX-License-Identifier: MIT OR Apache-2.0
// The epoll descriptor behind Frontend::fd(). Not installed.
#ifndef GMEM_VHOST_FRONTEND_EVENT_SET_H_
#define GMEM_VHOST_FRONTEND_EVENT_SET_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Watches the front-end's sockets.
class EventSet {
 public:
  // One socket's place in the set. Use a new one for each socket: the kernel removes a socket from
  // the set when it is closed.
  struct Entry {
    uint32_t events = 0;
  };

  absl::Status Open();
  int fd() const { return epoll_.get(); }

  // Watches @socket for @events, in the place of those that @entry remembers. epoll_ctl() fails
  // only for lack of memory; callers that wait then still see their deadline.
  void Watch(int socket, uint32_t events, Entry& entry) const;

  // Sleeps until a socket is ready or @timeout has passed.
  void Wait(absl::Duration timeout) const;

 private:
  UniqueFd epoll_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_EVENT_SET_H_
