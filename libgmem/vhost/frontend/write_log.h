// SPDX-License-Identifier: MIT OR Apache-2.0
// The back-end's logging of its writes. Not installed.
#ifndef GMEM_VHOST_FRONTEND_WRITE_LOG_H_
#define GMEM_VHOST_FRONTEND_WRITE_LOG_H_

#include "absl/status/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"
#include "vhost/frontend/vrings.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Gives the log to each back-end, and turns logging on and off.
class WriteLog {
 public:
  WriteLog(Session& session, Agreement& agreement, Vrings& vrings)
      : session_(session), agreement_(agreement), vrings_(vrings) {}
  WriteLog(const WriteLog&) = delete;
  WriteLog& operator=(const WriteLog&) = delete;

  // See Frontend::StartLog() and Frontend::StopLog().
  absl::Status Start(const DirtyLog& log);
  absl::Status Stop();
  // Gives the log, if there is one, to a new back-end. The features follow from SetFeatures().
  absl::Status Resume();

  bool is_on() const { return fd_.is_valid(); }

 private:
  absl::Status Enable(bool enable);

  Session& session_;
  Agreement& agreement_;
  Vrings& vrings_;
  LogArea area_ = {};
  UniqueFd fd_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_WRITE_LOG_H_
