// SPDX-License-Identifier: MIT OR Apache-2.0
// The guest's memory, as one session sees it. Not installed.
#ifndef GMEM_VHOST_BACKEND_MEMORY_H_
#define GMEM_VHOST_BACKEND_MEMORY_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/wire/event_signal.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The regions of the guest's memory, the IOTLB that translates its addresses, and the log of the
// pages that the back-end writes.
class SessionMemory {
 public:
  // @negotiation must outlive this object.
  explicit SessionMemory(const Negotiation& negotiation) : negotiation_(negotiation) {}
  SessionMemory(const SessionMemory&) = delete;
  SessionMemory& operator=(const SessionMemory&) = delete;

  GuestMemoryMap& map() { return map_; }
  const GuestMemoryMap& map() const { return map_; }

  // Are addresses translated by an IOTLB?
  bool is_translated() const { return negotiation_.has(VirtioFeature::kIommuPlatform); }
  // Call this after a change of the features, which say what kind of addresses the peers use.
  void UpdateTranslation();
  absl::Status ApplyIotlb(const IotlbMessage& message) { return iotlb_.Apply(message); }

  // The memory of one part of a ring, to read and to write; empty if it isn't all there. With an
  // IOTLB, @miss is the first address without a translation, if that is the reason. InvalidArgument
  // (EINVAL) if its pages aren't contiguous in this process.
  absl::StatusOr<GuestSpan> FindRingPart(uint64_t address, uint64_t size,
                                         std::optional<uint64_t>& miss) const;

  // SET_LOG_BASE and SET_LOG_FD; errors: see DirtyMarks::Create() and Notifier::Adopt().
  absl::Status SetLog(const LogArea& area, int fd);
  absl::Status SetLogNotifier(UniqueFd fd);
  // Null while nothing has to be marked.
  const DirtyMarks* log() const;
  // See DirtyMarks.
  bool is_log_broken() const { return log_.is_broken(); }
  // Tells the front-end that there may be new marks.
  void NotifyLog(wire_internal::EventSignaler& signaler) const;

 private:
  const Negotiation& negotiation_;
  GuestMemoryMap map_;
  Iotlb iotlb_;
  DirtyMarks log_;
  Notifier log_notifier_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_MEMORY_H_
