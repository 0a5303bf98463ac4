// SPDX-License-Identifier: MIT OR Apache-2.0
// The names of numbers, as in Documentation/netlink/specs/gmem.yaml.
#include "absl/strings/string_view.h"
#include "gmem/monitor.h"
#include "gmem/vm.h"

namespace gmem {

absl::string_view ToString(EventType type) {
  switch (type) {
    case EventType::kGap:
      return "gap";
    case EventType::kOverrun:
      return "overrun";
    case EventType::kVmCreated:
      return "vm-created";
    case EventType::kVmDestroyed:
      return "vm-destroyed";
    case EventType::kMemoryCreated:
      return "mem-created";
    case EventType::kMemoryDestroyed:
      return "mem-destroyed";
    case EventType::kMap:
      return "map";
    case EventType::kUnmap:
      return "unmap";
    case EventType::kLend:
      return "lend";
    case EventType::kShare:
      return "share";
    case EventType::kReclaim:
      return "reclaim";
    case EventType::kReclaimRefused:
      return "reclaim-refused";
    case EventType::kLeak:
      return "leak";
    case EventType::kHwPoison:
      return "hwpoison";
    case EventType::kRefused:
      return "refused";
    case EventType::kViewCreated:
      return "view-created";
    case EventType::kViewDestroyed:
      return "view-destroyed";
    case EventType::kViewRevoked:
      return "view-revoked";
    case EventType::kWindowCreated:
      return "window-created";
    case EventType::kWindowDestroyed:
      return "window-destroyed";
    case EventType::kChange:
      return "change";
  }
  return "unknown";
}

absl::string_view ToString(ReclaimCause cause) {
  switch (cause) {
    case ReclaimCause::kHost:
      return "host";
    case ReclaimCause::kPunch:
      return "punch";
    case ReclaimCause::kUnbind:
      return "unbind";
    case ReclaimCause::kTeardown:
      return "teardown";
    case ReclaimCause::kPoison:
      return "poison";
    case ReclaimCause::kDiscard:
      return "discard";
    case ReclaimCause::kChange:
      return "change";
  }
  return "unknown";
}

absl::string_view ToString(FaultReason reason) {
  switch (reason) {
    case FaultReason::kUnbound:
      return "unbound";
    case FaultReason::kStale:
      return "stale";
    case FaultReason::kPermission:
      return "perm";
    case FaultReason::kPinned:
      return "pinned";
    case FaultReason::kNoMemory:
      return "nomem";
    case FaultReason::kProvider:
      return "provider";
    case FaultReason::kHwPoison:
      return "hwpoison";
    case FaultReason::kLeaked:
      return "leaked";
    case FaultReason::kInterrupted:
      return "interrupted";
  }
  return "unknown";
}

absl::string_view ToString(WindowKind kind) {
  switch (kind) {
    case WindowKind::kBest:
      break;
    case WindowKind::kNone:
      return "none";
    case WindowKind::kPaged:
      return "paged";
    case WindowKind::kLive:
      return "live";
  }
  return "unknown";
}

absl::string_view ToString(ReclaimPolicy policy) {
  switch (policy) {
    case ReclaimPolicy::kAllow:
      return "allow";
    case ReclaimPolicy::kScrub:
      return "scrub";
    case ReclaimPolicy::kDeny:
      return "deny";
  }
  return "unknown";
}

}  // namespace gmem
