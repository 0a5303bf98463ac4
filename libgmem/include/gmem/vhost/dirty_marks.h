// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_DIRTY_MARKS_H_
#define GMEM_VHOST_DIRTY_MARKS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The bitmap in which a back-end marks the pages of the guest that it writes, during a migration:
/// one bit for each kLogPageSize bytes from guest address 0 on.
///
/// Thread-safe: marks are atomic.
class DirtyMarks {
 public:
  /// No bitmap.
  DirtyMarks();
  DirtyMarks(DirtyMarks&& other) noexcept;
  DirtyMarks& operator=(DirtyMarks&& other) noexcept;
  ~DirtyMarks();

  /// Maps the bitmap. @p guest_end is the first guest address behind the memory that it must cover.
  /// InvalidArgument (EINVAL) if the area isn't in the file, or too small for that: the front-end
  /// chose both sizes (CVE-2020-10722).
  static absl::StatusOr<DirtyMarks> Create(const LogArea& area, int fd, uint64_t guest_end);

  bool is_valid() const;
  /// Has it zero pages in the place of its file? See SurviveSigbus().
  bool is_broken() const;

  /// Marks all pages of the @p size bytes from @p guest_address on that have a bit. Does nothing
  /// without a bitmap.
  void Mark(uint64_t guest_address, uint64_t size) const;

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DIRTY_MARKS_H_
