// SPDX-License-Identifier: MIT OR Apache-2.0
// The in-flight buffer, which outlives a back-end. Not installed.
#ifndef GMEM_VHOST_FRONTEND_INFLIGHT_BUFFER_H_
#define GMEM_VHOST_FRONTEND_INFLIGHT_BUFFER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Keeps the buffer and gives it to each back-end.
class InflightBuffer {
 public:
  InflightBuffer(Session& session, const Agreement& agreement)
      : session_(session), agreement_(agreement) {}
  InflightBuffer(const InflightBuffer&) = delete;
  InflightBuffer& operator=(const InflightBuffer&) = delete;

  // See Frontend::StartInflight() and Frontend::SetInflight().
  absl::Status Start(uint16_t nr_queues, uint16_t queue_size);
  absl::Status Set(const InflightArea& area, int fd);
  // Gives the buffer, if there is one, to a new back-end.
  absl::Status Resume();

  int fd() const { return fd_.get(); }
  const InflightArea& area() const { return area_; }

 private:
  Session& session_;
  const Agreement& agreement_;
  InflightArea area_ = {};
  UniqueFd fd_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_INFLIGHT_BUFFER_H_
