// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_MEMORY_TABLE_H_
#define GMEM_VHOST_MEMORY_TABLE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend_view.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// A piece of guest memory that a back-end may use. Use designated initialisers.
struct GuestRegion {
  GuestAddress guest_address = {};
  /// Not 0.
  ByteSize size = {};
  /// The region's address in the front-end, or any other number, as long as no two regions overlap.
  /// The back-end only uses it to translate the addresses of virtqueues.
  uint64_t user_address = 0;
  /// The file that has the memory; the back-end must be able to map it shared. Borrowed for the
  /// call. The back-end gets the descriptor itself, except a guestmem's: see
  /// Frontend::SetMemory().
  int fd = -1;
  /// The first byte in the file.
  ByteOffset offset = {};
};

/// OK if a back-end can have these regions. InvalidArgument (EINVAL) for a region that is empty or
/// wraps, for a negative descriptor, or for two regions that overlap, by guest or by user
/// addresses; ResourceExhausted (ENOSPC) for more than @p max_regions. Thread-safe.
absl::Status CheckRegions(absl::Span<const GuestRegion> regions, size_t max_regions);

/// A region that the back-end has.
struct SharedRegion {
  /// Duplicates the descriptor. The system's error for it, EBADF for example.
  static absl::StatusOr<SharedRegion> Of(const GuestRegion& region);

  /// Is it the same memory at the same addresses? Compares files, not descriptors.
  bool Is(const SharedRegion& other) const {
    return wire == other.wire && device == other.device && inode == other.inode;
  }

  /// The region and the descriptor as the back-end gets them. The descriptor is -1 if the front-end
  /// has closed it since.
  MemoryRegion sent() const;
  int sent_fd() const { return view != nullptr ? view->fd() : fd.get(); }

  /// The region in the file @p fd.
  MemoryRegion wire = {};
  UniqueFd fd;
  dev_t device = 0;
  ino_t inode = 0;
  /// The back-end has this view instead of a guestmem. Null for other files, and while no back-end
  /// has the region.
  std::shared_ptr<BackendView> view;
  /// The region's address in the back-end; only during postcopy.
  std::optional<uint64_t> client_address;
  /// KeepParts() has cut the region off the one that ends where it begins.
  bool is_cut = false;
};

/// The steps from one table to another, region by region.
struct TableDifference {
  /// Places in the old table, the last first: remove these regions first, in this order.
  std::vector<size_t> removals;
  /// Places in the new table, in its order: add these regions then.
  std::vector<size_t> additions;
};
/// Thread-safe.
TableDifference Compare(absl::Span<const SharedRegion> from, absl::Span<const SharedRegion> to);

/// Returns @p to, but cut: each region of @p from that is a part of a larger region in @p to stays
/// a region of its own, so that a back-end needs only the new parts. Returns @p to uncut if the
/// result would have more than @p max_regions. Thread-safe.
absl::StatusOr<std::vector<SharedRegion>> KeepParts(absl::Span<const SharedRegion> from,
                                                    std::vector<SharedRegion> to,
                                                    size_t max_regions);

/// Joins the regions that KeepParts() has cut, where both sides are there. The regions must have no
/// views. Thread-safe.
std::vector<SharedRegion> JoinParts(std::vector<SharedRegion> regions);

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_MEMORY_TABLE_H_
