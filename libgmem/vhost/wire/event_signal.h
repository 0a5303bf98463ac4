// SPDX-License-Identifier: MIT OR Apache-2.0
// Eventfds that a peer has, too. Not installed.
#ifndef GMEM_VHOST_WIRE_EVENT_SIGNAL_H_
#define GMEM_VHOST_WIRE_EVENT_SIGNAL_H_

#include <linux/aio_abi.h>

#include <cstddef>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::wire_internal {

// Signals eventfds without ever waiting. A peer has the same open file: between a look at it and a
// write(), it can fill the counter and clear O_NONBLOCK, and the write() waits then until the peer
// reads. So the kernel itself signals the eventfd, as the completion of an asynchronous request:
// that adds to a counter that isn't full, and never waits. A full counter is a signal already.
//
// The system has a limit on these requests (fs.aio-max-nr), and a sandbox may forbid them. Until
// there are some, a look, O_NONBLOCK and a write() must do: then a peer that acts between two of
// these steps can make the write() wait.
//
// Thread-compatible.
class EventSignaler {
 public:
  EventSignaler() = default;
  EventSignaler(const EventSignaler&) = delete;
  EventSignaler& operator=(const EventSignaler&) = delete;
  ~EventSignaler();

  // The system's error if @fd can't be signalled.
  absl::Status Signal(int fd);

 private:
  // Results that may wait to be collected.
  static constexpr size_t kMaxResults = 64;

  void Open();
  bool Submit(int fd);
  void CollectResults();

  // When to try again after a failure, a time of Uptime().
  absl::Duration open_again_ = -absl::InfiniteDuration();
  // 0 if there is none.
  aio_context_t context_ = 0;
  // An empty file, of which requests read nothing.
  UniqueFd file_;
  size_t nr_results_ = 0;
};

// Is @fd an eventfd? The kernel says so in /proc; in a sandbox without that folder, any descriptor
// without a type of file passes, such as a signalfd.
bool IsEventfd(int fd);

}  // namespace gmem::vhost::wire_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_WIRE_EVENT_SIGNAL_H_
