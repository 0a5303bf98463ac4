// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/memory.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/wire/event_signal.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;

void SessionMemory::UpdateTranslation() {
  if (!is_translated()) iotlb_.Clear();
  map_.set_iotlb(is_translated() ? &iotlb_ : nullptr,
                 negotiation_.has(ProtocolFeature::kGpaAddresses));
}

absl::StatusOr<GuestSpan> SessionMemory::FindRingPart(uint64_t address, uint64_t size,
                                                      std::optional<uint64_t>& miss) const {
  miss.reset();
  if (!is_translated()) {
    return negotiation_.has(ProtocolFeature::kGpaAddresses) ? map_.FromGuest(address, size)
                                                            : map_.FromUser(address, size);
  }
  constexpr size_t kMaxPieces = 512;
  std::array<GuestSpan, kMaxPieces> pieces;
  size_t count = 0;
  uint64_t failed_at = 0;
  const GuestMemoryMap::Result result =
      map_.Translate(address, size, GuestAccess::kWrite, absl::MakeSpan(pieces), count, failed_at);
  if (result == GuestMemoryMap::Result::kMiss) miss = failed_at;
  if (result != GuestMemoryMap::Result::kOk || count == 0) return GuestSpan();
  for (size_t i = 1; i < count; i++) {
    if (pieces[i].data() != pieces[i - 1].data() + pieces[i - 1].size()) {
      return CheckError(EINVAL, absl::StrCat("the ring's part at 0x", absl::Hex(address),
                                             " isn't contiguous in memory"));
    }
  }
  return GuestSpan(pieces[0].data(), size);
}

absl::Status SessionMemory::SetLog(const LogArea& area, int fd) {
  GMEM_ASSIGN_OR_RETURN(log_, DirtyMarks::Create(area, fd, map_.guest_end()));
  return absl::OkStatus();
}

absl::Status SessionMemory::SetLogNotifier(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(log_notifier_, Notifier::Adopt(std::move(fd)));
  return absl::OkStatus();
}

const DirtyMarks* SessionMemory::log() const {
  return negotiation_.has(VirtioFeature::kLogAll) && log_.is_valid() ? &log_ : nullptr;
}

void SessionMemory::NotifyLog(wire_internal::EventSignaler& signaler) const {
  if (log_notifier_ && negotiation_.has(VirtioFeature::kLogAll)) log_notifier_.Signal(signaler);
}

}  // namespace gmem::vhost::backend_internal
