// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/notifier.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "vhost/wire/budget_share.h"
#include "vhost/wire/event_signal.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;
using internal::ErrnoError;

absl::StatusOr<Notifier> Notifier::Adopt(UniqueFd fd) {
  if (!fd) return Notifier();
  if (!wire_internal::IsEventfd(fd.get())) {
    return CheckError(EINVAL, "a descriptor for notifications isn't an eventfd");
  }
  GMEM_ASSIGN_OR_RETURN(
      wire_internal::BudgetShare share,
      wire_internal::BudgetShare::Take(wire_internal::BudgetShare::Kind::kDescriptors, 1));
  return Notifier(std::move(fd), std::move(share));
}

void Notifier::Signal(wire_internal::EventSignaler& signaler) const {
  // If the peer can't be signalled, it has broken its own descriptor.
  signaler.Signal(fd_.get()).IgnoreError();
}

absl::Status Notifier::Drain() const {
  uint64_t value = 0;
  const iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};
  // RWF_NOWAIT, because the front-end has the same open file and may clear O_NONBLOCK.
  if (preadv2(fd_.get(), &iov, 1, -1, RWF_NOWAIT) >= 0 || errno == EAGAIN) {
    return absl::OkStatus();
  }
  return ErrnoError(errno, "can't read a virtqueue's kick");
}

}  // namespace gmem::vhost::backend_internal
