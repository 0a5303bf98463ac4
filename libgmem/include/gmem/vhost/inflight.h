// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_INFLIGHT_H_
#define GMEM_VHOST_INFLIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// Shared memory in which a back-end notes the chains in flight, with a part for each virtqueue.
/// The front-end keeps it when the back-end ends, so that the next back-end can do these chains
/// again. The front-end may have changed its content: Virtqueue checks it.
///
/// Thread-compatible.
class InflightBuffer {
 public:
  /// No buffer.
  InflightBuffer();
  InflightBuffer(InflightBuffer&& other) noexcept;
  InflightBuffer& operator=(InflightBuffer&& other) noexcept;
  ~InflightBuffer();

  /// Makes an empty buffer (GET_INFLIGHT_FD). InvalidArgument (EINVAL) unless there are 1 to
  /// @p max_queues queues, of 1 to kMaxQueueSize entries (CVE-2021-3839).
  static absl::StatusOr<InflightBuffer> Create(uint16_t nr_queues, uint16_t queue_size,
                                               bool is_packed, size_t max_queues = kMaxQueues);

  /// Takes over the buffer that the front-end kept (SET_INFLIGHT_FD). InvalidArgument (EINVAL): as
  /// Create(), or the area isn't in the file, or too small for the queues.
  static absl::StatusOr<InflightBuffer> Adopt(const InflightArea& area, UniqueFd fd, bool is_packed,
                                              size_t max_queues = kMaxQueues);

  bool is_valid() const;
  /// Has it zero pages in the place of its file? See SurviveSigbus().
  bool is_broken() const;
  const InflightArea& area() const;
  /// Still owned; -1 without a buffer.
  int fd() const;

  /// A virtqueue's part, for Virtqueue::TrackInflight(); empty if it has none.
  GuestSpan queue(size_t index) const;

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_INFLIGHT_H_
