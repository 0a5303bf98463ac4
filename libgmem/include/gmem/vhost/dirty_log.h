// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_DIRTY_LOG_H_
#define GMEM_VHOST_DIRTY_LOG_H_

#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The guest memory that back-ends have written to since the last look, for live migration: a bit
/// for each kLogPageSize bytes. The log is memory that this process shares with all back-ends that
/// got it by Frontend::StartLog().
///
/// @par Thread safety
/// Thread-safe: Create(), end(), fd(), area(), ReadAndClear(); the back-ends may write meanwhile.\n
/// Needs exclusive access: moving, destroying.
class DirtyLog {
 public:
  /// The limit of the guest addresses that a log can cover: its file has 128 GiB at most.
  static constexpr GuestAddress kMaxEnd = GuestAddress(uint64_t{1} << 52);

  /// Makes a log of the guest addresses below @p end. InvalidArgument (EINVAL) if that is 0 or
  /// beyond kMaxEnd.
  static absl::StatusOr<DirtyLog> Create(GuestAddress end);

  GuestAddress end() const { return end_; }
  int fd() const { return fd_.get(); }
  /// The payload of SET_LOG_BASE.
  LogArea area() const { return {.mmap_size = memory_.size(), .mmap_offset = 0}; }

  /// Calls @p visit for each run of pages that were written, in ascending order, and clears their
  /// bits. If a back-end writes to a page after the visit, the next call visits it again.
  void ReadAndClear(absl::FunctionRef<void(GuestRange)> visit) const;

 private:
  DirtyLog(UniqueFd fd, Mapping memory, GuestAddress end)
      : fd_(std::move(fd)), memory_(std::move(memory)), end_(end) {}

  UniqueFd fd_;
  Mapping memory_;
  GuestAddress end_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DIRTY_LOG_H_
