// SPDX-License-Identifier: Apache-2.0
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

/// A back-end's userfaultfd during postcopy: the back-end touches guest memory that
/// isn't there yet, and stops until it is.
///
/// Thread-compatible.
class Faults {
 public:
  struct Fault {
    /// The page, in the back-end's address space.
    uint64_t client_address = 0;
    /// The same as the guest has it.
    GuestAddress guest_address;
    bool write = false;
  };

  /// InvalidArgument (EINVAL) if it is no userfaultfd.
  static absl::StatusOr<Faults> Adopt(UniqueFd userfaultfd);

  /// For epoll: readable when Next() may bring something.
  int fd() const { return fd_.get(); }

  /// The next access that waits, or nothing if there is none, or too many other events are
  /// before it: then fd() stays readable. NotFound (ENOENT) for an address that is in none
  /// of @p regions; call again for the next one. EBADF if the back-end has made its file
  /// block. Doesn't wait.
  static constexpr int kMaxEventsAtOnce = 64;
  absl::StatusOr<std::optional<Fault>> Next(absl::Span<const SharedRegion> regions) const;

  /// Lets go on who waits for @p range: to be called when its pages are in the file. A
  /// range of the guest may lie in several regions, or in none.
  absl::Status Wake(absl::Span<const SharedRegion> regions, GuestRange range) const;

 private:
  explicit Faults(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_POSTCOPY_H_
