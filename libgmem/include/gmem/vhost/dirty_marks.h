// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_DIRTY_MARKS_H_
#define GMEM_VHOST_DIRTY_MARKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The bitmap in which a back-end marks the guest's pages that it wrote to, during a
/// migration: a bit for each kLogPageSize bytes from guest address 0 on.
///
/// Thread-safe: marks are atomic.
class DirtyMarks {
 public:
  /// No log.
  DirtyMarks() = default;

  /// Maps the log. @p guest_end, a guest address, is what it must reach to.
  /// InvalidArgument (EINVAL) if the area isn't in the file, or too small for that: the
  /// sizes are the front-end's, and were trusted elsewhere (CVE-2020-10722).
  static absl::StatusOr<DirtyMarks> Create(const LogArea& area, int fd, uint64_t guest_end);

  bool is_valid() const { return bits_ != nullptr; }

  /// Marks all pages of @p size bytes from @p guest_address on. What has no bit is left
  /// out. Nothing to do without a log.
  void Mark(uint64_t guest_address, uint64_t size) const;

 private:
  Mapping mapping_;
  uint8_t* bits_ = nullptr;
  uint64_t nr_bits_ = 0;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DIRTY_MARKS_H_
