// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_POSTCOPY_H_
#define GMEM_VHOST_POSTCOPY_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/memory_table.h"

namespace gmem::vhost {

/// A back-end's userfaultfd during postcopy. A thread of the back-end that touches a page of guest
/// memory that hasn't arrived sleeps until Wake().
///
/// Thread-compatible.
class Faults {
 public:
  struct Fault {
    /// The page's address in the back-end.
    uint64_t client_address = 0;
    /// The page's address in the guest.
    GuestAddress guest_address;
    bool write = false;
  };

  /// InvalidArgument (EINVAL) if the descriptor is no userfaultfd.
  static absl::StatusOr<Faults> Adopt(UniqueFd userfaultfd);

  /// For epoll: readable when Next() may bring something.
  int fd() const { return fd_.get(); }

  /// The next access that waits, or nothing if there is none. Looks at kMaxEventsAtOnce events at
  /// most: if more come before the access, returns nothing, and fd() stays readable. NotFound
  /// (ENOENT) for an address outside @p regions; call again for the next access. EBADF if the
  /// back-end has made its userfaultfd blocking. Doesn't wait.
  static constexpr int kMaxEventsAtOnce = 64;
  absl::StatusOr<std::optional<Fault>> Next(absl::Span<const SharedRegion> regions) const;

  /// Wakes the threads that wait for pages of @p range. Call it when the pages are in the file. The
  /// range may lie in several regions, or in none.
  absl::Status Wake(absl::Span<const SharedRegion> regions, GuestRange range) const;

 private:
  explicit Faults(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_POSTCOPY_H_
