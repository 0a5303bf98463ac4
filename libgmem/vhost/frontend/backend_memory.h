// SPDX-License-Identifier: MIT OR Apache-2.0
// The guest memory that the back-end has. Not installed.
#ifndef GMEM_VHOST_FRONTEND_BACKEND_MEMORY_H_
#define GMEM_VHOST_FRONTEND_BACKEND_MEMORY_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/vhost/backend_view.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Why there is no postcopy while the back-end has views.
absl::Status NoPostcopyError();

// Sends the memory table, whole or by difference, and remembers the regions that the back-end has
// acknowledged. During postcopy, learns where the back-end has each region, too.
class BackendMemory {
 public:
  // See Frontend::Options.
  struct Options {
    bool whole_guest_memory = false;
    bool only_sealed_memory = false;
    std::string view_name;
  };

  BackendMemory(Session& session, const Agreement& agreement, Options options)
      : session_(session), agreement_(agreement), options_(std::move(options)) {}
  BackendMemory(const BackendMemory&) = delete;
  BackendMemory& operator=(const BackendMemory&) = delete;

  // See Frontend::SetMemory() and Frontend::memory(). @keeps_parts: do virtqueues work, so that the
  // back-end must keep the parts that it has of a region that has grown?
  absl::Status Set(absl::Span<const GuestRegion> regions, bool keeps_parts);
  absl::Span<const SharedRegion> regions() const { return regions_; }

  // Does the back-end treat the next message as the acknowledgement of a table? If so, no other
  // request may be sent.
  bool is_unacknowledged() const { return is_unacknowledged_; }

  // Does the back-end have views of guestmems?
  bool has_views() const;
  // The back-end is gone, or can't be reached: what it still has of guestmems ends here.
  void RevokeViews();

  // From now on, the back-end may get no view. It has none yet.
  void AdvisePostcopy() { may_have_views_ = false; }
  // From now on, the back-end answers each region with its own address of it.
  void StartPostcopy() { is_postcopy_ = true; }
  // Ends both; forgets those addresses.
  void EndPostcopy();

  // Hands over all regions. Restore() brings them back, unless a Set() after the connection's end
  // has replaced them.
  std::vector<SharedRegion> Take();
  void Restore(std::vector<SharedRegion> regions);
  // Sends @regions to a new back-end.
  absl::Status Resume(absl::Span<const SharedRegion> regions);

 private:
  absl::Status MakeView(SharedRegion& region);
  absl::Status MakeViews(std::vector<SharedRegion>& regions);
  absl::Status Send(std::vector<SharedRegion> regions, bool keeps_parts);
  absl::Status SendTable(std::vector<SharedRegion> regions);
  absl::Status SendDifference(std::vector<SharedRegion> regions, bool keeps_parts);
  absl::Status Add(SharedRegion region);
  absl::Status AcknowledgeClients(FrontendRequest request);
  // Sends a request that changes the back-end's memory. OK if regions_ must follow. An end of the
  // connection right after the answer is an error, too: OnDisconnect() may have called Set().
  template <FrontendRequest kRequest>
  absl::Status Change(const typename RequestTraits<kRequest>::Payload& payload,
                      absl::Span<const int> fds);

  Session& session_;
  const Agreement& agreement_;
  const Options options_;
  std::vector<SharedRegion> regions_;
  // All views that may not be revoked: those of regions_, and those of regions that are under way.
  std::vector<std::weak_ptr<BackendView>> views_;
  // Does regions_ hold the table that a Set() after the connection's end has left for the next one?
  bool is_for_next_ = false;
  bool may_have_views_ = true;
  bool is_postcopy_ = false;
  bool is_unacknowledged_ = false;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_BACKEND_MEMORY_H_
