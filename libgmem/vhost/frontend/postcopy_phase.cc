// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/postcopy_phase.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/postcopy.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {

absl::Status PostcopyPhase::Advise() {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kPagefault, "POSTCOPY_ADVISE"));
  if (memory_.has_views()) return NoPostcopyError();
  FdList fds;
  GMEM_RETURN_IF_ERROR(session_.Call<FrontendRequest::kPostcopyAdvise>({}, {}, &fds).status());
  // The connection may have ended right after the answer: Abort() has run.
  GMEM_RETURN_IF_ERROR(session_.status());
  GMEM_ASSIGN_OR_RETURN(Faults faults, Faults::Adopt(fds.Take(0)));
  faults_.emplace(std::move(faults));
  memory_.AdvisePostcopy();
  return absl::OkStatus();
}

absl::Status PostcopyPhase::Listen() {
  if (!faults_) return absl::FailedPreconditionError("POSTCOPY_LISTEN comes after ADVISE");
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kPostcopyListen>());
  // As in Advise().
  GMEM_RETURN_IF_ERROR(session_.status());
  memory_.StartPostcopy();
  return absl::OkStatus();
}

absl::Status PostcopyPhase::End() {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kPagefault, "POSTCOPY_END"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply, session_.Call<FrontendRequest::kPostcopyEnd>());
  // The phase is over, whatever the back-end answers.
  Abort();
  if (reply == 0) return absl::OkStatus();
  return internal::CheckError(
      EIO, absl::StrCat("the back-end can't end postcopy: 0x", absl::Hex(reply)));
}

absl::StatusOr<const Faults*> PostcopyPhase::faults() const {
  if (faults_) return &*faults_;
  GMEM_RETURN_IF_ERROR(session_.status());
  return absl::FailedPreconditionError(
      "a back-end has faults only from PostcopyAdvise() to PostcopyEnd()");
}

void PostcopyPhase::Abort() {
  faults_.reset();
  memory_.EndPostcopy();
}

}  // namespace gmem::vhost::frontend_internal
