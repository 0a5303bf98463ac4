// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_MEMORY_TABLE_H_
#define GMEM_VHOST_MEMORY_TABLE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// A piece of guest memory that a back-end may use. Use designated initialisers.
struct GuestRegion {
  GuestAddress guest_address = {};
  /// Not 0.
  ByteSize size = {};
  /// Where the front-end has it mapped, or any number such that no two regions overlap:
  /// the back-end translates the addresses of virtqueues by it, and nothing else.
  uint64_t user_address = 0;
  /// The file that it is in, which the back-end can map shared. Borrowed for the call.
  int fd = -1;
  /// Where it begins in the file.
  ByteOffset offset = {};
};

/// Are these regions that a back-end can be told of? InvalidArgument (EINVAL) for an
/// empty one, one that wraps, a bad descriptor, or two that overlap, by guest or by user
/// addresses; ResourceExhausted (ENOSPC) for more than @p max_regions.
absl::Status CheckRegions(absl::Span<const GuestRegion> regions, size_t max_regions);

/// A region that the back-end knows of.
struct SharedRegion {
  /// Takes a descriptor of its own.
  static absl::StatusOr<SharedRegion> Of(const GuestRegion& region);

  /// The same memory at the same addresses? Files are compared, not descriptors.
  bool Is(const SharedRegion& other) const {
    return wire == other.wire && device == other.device && inode == other.inode;
  }

  MemoryRegion wire = {};
  UniqueFd fd;
  dev_t device = 0;
  ino_t inode = 0;
  /// During postcopy: where the back-end has it mapped.
  std::optional<uint64_t> client_address;
};

/// How to get from one table to another, region by region.
struct TableDifference {
  /// Places in the old table, the last first: remove them in this order.
  std::vector<size_t> removals;
  /// Places in the new table, in its order: add them then.
  std::vector<size_t> additions;
};
TableDifference Compare(absl::Span<const SharedRegion> from, absl::Span<const SharedRegion> to);

/// @p to, cut such that each region of @p from that is a part of a larger one there stays a
/// region: only what is new is to be added. All of @p to as it is, if that makes more than
/// @p max_regions.
absl::StatusOr<std::vector<SharedRegion>> KeepParts(absl::Span<const SharedRegion> from,
                                                    std::vector<SharedRegion> to,
                                                    size_t max_regions);

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_MEMORY_TABLE_H_
