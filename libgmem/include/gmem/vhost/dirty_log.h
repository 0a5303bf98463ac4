// SPDX-License-Identifier: Apache-2.0
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

/// What back-ends have written to since the last look, for live migration: a bit for
/// each kLogPageSize bytes of guest memory, in memory shared with all back-ends that
/// Frontend::StartLog() told of it.
///
/// Thread-safe: every const method, and the back-ends may write meanwhile.
class DirtyLog {
 public:
  /// The most memory that a log can be for: its file stays below 128 GiB.
  static constexpr GuestAddress kMaxEnd = GuestAddress(uint64_t{1} << 52);

  /// For guest addresses below @p end. InvalidArgument if it is 0 or beyond kMaxEnd.
  static absl::StatusOr<DirtyLog> Create(GuestAddress end);

  GuestAddress end() const { return end_; }
  int fd() const { return fd_.get(); }
  /// What SET_LOG_BASE says.
  LogArea area() const { return {.mmap_size = memory_.size(), .mmap_offset = 0}; }

  /// Calls @p visit for each run of pages that were written, ascending, and forgets them.
  /// A write that comes after its page was visited is in the next run.
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
