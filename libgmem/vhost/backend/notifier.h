// SPDX-License-Identifier: MIT OR Apache-2.0
// A descriptor for notifications between the back-end and its peers. Not installed.
#ifndef GMEM_VHOST_BACKEND_NOTIFIER_H_
#define GMEM_VHOST_BACKEND_NOTIFIER_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "vhost/wire/budget_share.h"
#include "vhost/wire/event_signal.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// An eventfd that the front-end has sent: a kick, a call, an error, or a change of the log.
class Notifier {
 public:
  // No descriptor.
  Notifier() = default;

  // An empty @fd is fine. ResourceExhausted (EMFILE) beyond the process's budget. InvalidArgument
  // (EINVAL) for anything but an eventfd: a write to a pipe or a socket may raise SIGPIPE, access
  // to a file may wait for the process that serves it, and a read from a signalfd takes this
  // process's signals.
  static absl::StatusOr<Notifier> Adopt(UniqueFd fd);

  explicit operator bool() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  void reset() { *this = Notifier(); }

  // Never blocks.
  void Signal(wire_internal::EventSignaler& signaler) const;
  // Takes the counter. Never blocks, even if the front-end has taken it before.
  absl::Status Drain() const;

 private:
  Notifier(UniqueFd fd, wire_internal::BudgetShare share)
      : share_(std::move(share)), fd_(std::move(fd)) {}

  wire_internal::BudgetShare share_;
  UniqueFd fd_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_NOTIFIER_H_
