// SPDX-License-Identifier: Apache-2.0
// Where the rings of virtqueues lie, and how that is found out.
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
#include "gmem/status.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

using internal::CheckError;

absl::StatusOr<GuestSpan> Backend::FindRingPart(size_t index, uint64_t address, uint64_t size) {
  if (!has_feature(VirtioFeature::kIommuPlatform)) {
    return has_feature(ProtocolFeature::kGpaAddresses) ? memory_.FromGuest(address, size)
                                                       : memory_.FromUser(address, size);
  }
  // The IOTLB's pages must lie one behind the other here, too.
  constexpr size_t kMaxPieces = 512;
  std::array<GuestSpan, kMaxPieces> pieces;
  size_t count = 0;
  uint64_t failed_at = 0;
  const GuestMemoryMap::Result result = memory_.Translate(address, size, GuestAccess::kWrite,
                                                          absl::MakeSpan(pieces), count, failed_at);
  if (result == GuestMemoryMap::Result::kMiss) {
    AskForMiss(index, failed_at, kIotlbRead | kIotlbWrite);
  }
  if (result != GuestMemoryMap::Result::kOk || count == 0) return GuestSpan();
  for (size_t i = 1; i < count; i++) {
    if (pieces[i].data() != pieces[i - 1].data() + pieces[i - 1].size()) {
      return CheckError(EINVAL, absl::StrCat("virtqueue ", index, ": the ring's part at 0x",
                                             absl::Hex(address), " isn't contiguous in memory"));
    }
  }
  return GuestSpan(pieces[0].data(), size);
}

absl::StatusOr<std::optional<Virtqueue::Memory>> Backend::FindRing(size_t index) {
  const Vring& vring = vrings_[index];
  if (!vring.address) return std::nullopt;
  const Virtqueue::Sizes sizes = Virtqueue::SizesOf(OptionsOf(index));
  Virtqueue::Memory ring;
  GMEM_ASSIGN_OR_RETURN(ring.descriptors,
                        FindRingPart(index, vring.address->descriptor, sizes.descriptors));
  GMEM_ASSIGN_OR_RETURN(ring.used, FindRingPart(index, vring.address->used, sizes.used));
  GMEM_ASSIGN_OR_RETURN(ring.available,
                        FindRingPart(index, vring.address->available, sizes.available));
  if (ring.descriptors.empty() || ring.used.empty() || ring.available.empty()) {
    return std::nullopt;
  }
  return ring;
}

// After the memory table, the IOTLB, or who tells of it, have changed.
void Backend::MoveRings() {
  for (size_t i = 0; i < vrings_.size(); i++) {
    Vring& vring = vrings_[i];
    if (vring.miss != Miss::kNone) {
      vring.miss = Miss::kNone;
      vring.is_pending = true;
      Wake();
    }
    if (!vring.queue) continue;
    const bool was_reachable = vring.queue->is_reachable();
    absl::StatusOr<std::optional<Virtqueue::Memory>> ring = FindRing(i);
    absl::Status status = ring.status();
    if (!status.ok()) ring = std::nullopt;
    // Before what waits for the ring is written to it.
    SetLog(vring, *ring);
    status.Update(vring.queue->Move(*ring));
    if (!status.ok()) FailQueue(i, status);
    if (was_reachable || !vring.queue->is_reachable()) continue;
    vring.queue->Notify();
    vring.is_pending = true;
    Wake();
  }
}

void Backend::SetLog(Vring& vring, const std::optional<Virtqueue::Memory>& ring) {
  const bool is_logging = has_feature(VirtioFeature::kLogAll) && log_.is_valid();
  bool log_ring = ring && (vring.address->flags & kVringLog) != 0;
  uint64_t address = vring.address->log;
  const bool is_packed = has_feature(VirtioFeature::kRingPacked);
  if (is_logging && log_ring && (is_packed || has_feature(VirtioFeature::kIommuPlatform))) {
    // It is the used part's, and may be an I/O virtual address. But the log knows the guest's
    // only, and a packed ring is written where its descriptors are.
    const GuestSpan part = is_packed ? ring->descriptors : ring->used;
    const std::optional<uint64_t> written = memory_.ToGuest(part.data());
    log_ring = written.has_value();
    address = written.value_or(0);
  }
  vring.queue->set_log(is_logging ? &log_ : nullptr, log_ring, address);
}

void Backend::AskForMiss(size_t index, uint64_t iova, uint8_t permissions) {
  Vring& vring = vrings_[index];
  // One at a time: an update makes it try again, or a channel where there was none.
  if (vring.miss != Miss::kNone) return;
  vring.miss = Miss::kAsked;
  if (!has_channel()) return;
  const IotlbMessage miss = {.iova = iova,
                             .size = 0,
                             .user_address = 0,
                             .permissions = permissions,
                             .type = IotlbType::kMiss,
                             .padding = {}};
  const auto done = [this, index](const absl::StatusOr<Message*>& reply) {
    if (reply.ok()) return;
    Vring& vring = vrings_[index];
    if (GetErrno(reply.status()) == EIO) {
      // Who refuses would do so again, now. A kick tries, too; but a driver with event
      // indices may not kick until there is an update.
      if (vring.miss == Miss::kAsked) vring.miss = Miss::kRefused;
      if (vring.queue) vring.queue->EnableKicks();
      return;
    }
    vring.miss = Miss::kNone;
    vring.is_pending = true;
  };
  channel_->Start<BackendRequest::kIotlbMsg>(miss, {}, done);
}

}  // namespace gmem::vhost
