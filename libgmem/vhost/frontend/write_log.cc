// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/write_log.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"
#include "vhost/frontend/vrings.h"

namespace gmem::vhost::frontend_internal {

absl::Status WriteLog::Start(const DirtyLog& log) {
  const Session::Deadline deadline(session_);
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kLogShmfd, "SET_LOG_BASE"));
  if ((agreement_.features() & Bit(VirtioFeature::kLogAll)) == 0) {
    return internal::CheckError(EOPNOTSUPP,
                                "the back-end can't log: it doesn't offer VHOST_F_LOG_ALL");
  }
  GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(log.fd()));
  const int fd = copy.get();
  GMEM_RETURN_IF_ERROR(
      session_.Do<FrontendRequest::kSetLogBase>(log.area(), absl::MakeConstSpan(&fd, 1)));
  area_ = log.area();
  fd_ = std::move(copy);
  absl::Status status = Enable(true);
  // Keep a log that the back-end already writes to: Stop() turns that off.
  if (!status.ok() && !agreement_.HasAcked(VirtioFeature::kLogAll)) fd_.reset();
  return status;
}

absl::Status WriteLog::Stop() {
  const Session::Deadline deadline(session_);
  if (!is_on()) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(Enable(false));
  fd_.reset();
  return absl::OkStatus();
}

absl::Status WriteLog::Enable(bool enable) {
  const uint64_t bit = Bit(VirtioFeature::kLogAll);
  const uint64_t acked = agreement_.acked_features();
  GMEM_RETURN_IF_ERROR(agreement_.SendFeatures(enable ? acked | bit : acked & ~bit));
  return vrings_.SendAddresses();
}

absl::Status WriteLog::Resume() {
  if (!is_on()) return absl::OkStatus();
  const int fd = fd_.get();
  return session_.Do<FrontendRequest::kSetLogBase>(area_, absl::MakeConstSpan(&fd, 1));
}

}  // namespace gmem::vhost::frontend_internal
