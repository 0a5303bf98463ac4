// SPDX-License-Identifier: MIT OR Apache-2.0
// How far a postcopy migration is. Not installed.
#ifndef GMEM_VHOST_FRONTEND_POSTCOPY_PHASE_H_
#define GMEM_VHOST_FRONTEND_POSTCOPY_PHASE_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/vhost/postcopy.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Sends POSTCOPY_* and keeps the back-end's userfaultfd between ADVISE and END.
class PostcopyPhase {
 public:
  PostcopyPhase(Session& session, const Agreement& agreement, BackendMemory& memory)
      : session_(session), agreement_(agreement), memory_(memory) {}
  PostcopyPhase(const PostcopyPhase&) = delete;
  PostcopyPhase& operator=(const PostcopyPhase&) = delete;

  absl::Status Advise();
  absl::Status Listen();
  absl::Status End();
  // The connection has ended, and the migration with it.
  void Abort();

  // See Frontend.
  absl::StatusOr<const Faults*> faults() const;

 private:
  Session& session_;
  const Agreement& agreement_;
  BackendMemory& memory_;
  std::optional<Faults> faults_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_POSTCOPY_PHASE_H_
