// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_INFLIGHT_H_
#define GMEM_VHOST_INFLIGHT_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// Shared memory in which a back-end notes what is in flight, a part for each virtqueue.
/// The front-end keeps it while the back-end is away, so that the next one knows what to
/// do again. What is in it is as trustworthy as the front-end: Virtqueue checks it.
///
/// Thread-compatible.
class InflightBuffer {
 public:
  /// No buffer.
  InflightBuffer() = default;

  /// Makes one, empty (GET_INFLIGHT_FD). InvalidArgument (EINVAL) unless there are 1 to
  /// @p max_queues queues, of 1 to kMaxQueueSize entries (CVE-2021-3839).
  static absl::StatusOr<InflightBuffer> Create(uint16_t nr_queues, uint16_t queue_size,
                                               bool is_packed, size_t max_queues = kMaxQueues);

  /// Takes over what the front-end kept (SET_INFLIGHT_FD). InvalidArgument (EINVAL): the
  /// same, or the area isn't in the file, or too small for so many queues.
  static absl::StatusOr<InflightBuffer> Adopt(const InflightArea& area, UniqueFd fd, bool is_packed,
                                              size_t max_queues = kMaxQueues);

  bool is_valid() const { return mapping_.data() != nullptr; }
  const InflightArea& area() const { return area_; }
  int fd() const { return fd_.get(); }

  /// A virtqueue's part, for Virtqueue::TrackInflight(); empty if it has none.
  GuestSpan queue(size_t index) const;

 private:
  UniqueFd fd_;
  Mapping mapping_;
  InflightArea area_ = {};
  // The first queue's part in the mapping, and the distance to the next.
  uint64_t start_ = 0;
  uint64_t stride_ = 0;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_INFLIGHT_H_
