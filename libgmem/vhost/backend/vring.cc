// SPDX-License-Identifier: Apache-2.0
#include "vhost/backend/vring.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/backend/channel.h"
#include "vhost/backend/memory.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/backend/poller.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;

absl::Status Vring::CheckStopped() const {
  if (!queue_) return absl::OkStatus();
  return CheckError(EBUSY,
                    absl::StrCat("virtqueue ", index_, " works: stop it first (GET_VRING_BASE)"));
}

absl::Status Vring::SetSize(uint32_t size) {
  GMEM_RETURN_IF_ERROR(CheckStopped());
  if (size == 0 || size > kMaxQueueSize) {
    return CheckError(EINVAL, absl::StrCat("virtqueue ", index_, " can't have ", size,
                                           " entries: 1 to ", kMaxQueueSize));
  }
  size_ = size;
  return absl::OkStatus();
}

absl::Status Vring::SetBase(uint32_t base) {
  GMEM_RETURN_IF_ERROR(CheckStopped());
  base_ = base;
  return absl::OkStatus();
}

absl::Status Vring::SetAddress(const VringAddress& address) {
  if ((address.flags & ~kVringLog) != 0) {
    return CheckError(EINVAL, absl::StrCat("SET_VRING_ADDR with flags 0x", absl::Hex(address.flags),
                                           ": only 1 is known"));
  }
  const std::optional<VringAddress> old = std::exchange(address_, address);
  // Without an IOTLB, no later request can make a wrong address right.
  if (!context_.memory.is_translated() && size_ > 0 && context_.memory.map().size() > 0 &&
      !FindRing().value_or(std::nullopt)) {
    address_ = old;
    return CheckError(
        EINVAL, absl::StrCat("SET_VRING_ADDR: virtqueue ", index_, " at 0x",
                             absl::Hex(address.descriptor), ", 0x", absl::Hex(address.available),
                             " and 0x", absl::Hex(address.used), " isn't all in memory"));
  }
  if (queue_) Refresh();
  return absl::OkStatus();
}

absl::Status Vring::Enable(uint32_t value) {
  if (value > 1) {
    return CheckError(EINVAL, absl::StrCat("SET_VRING_ENABLE to ", value, ": 0 or 1"));
  }
  set_enabled(value == 1);
  return absl::OkStatus();
}

void Vring::set_enabled(bool is_enabled) {
  is_enabled_ = is_enabled;
  // A virtqueue that hasn't started waits for SET_VRING_KICK.
  if (queue_) is_pending_ = true;
}

absl::Status Vring::SetKick(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(Notifier kick, Notifier::Adopt(std::move(fd)));
  if (kick) {
    GMEM_RETURN_IF_ERROR(context_.poller.Add(kick.fd(), EPOLLIN, Poller::Source::kKick, index_));
  }
  context_.poller.Remove(kick_.fd());
  kick_ = std::move(kick);
  is_polled_ = !kick_;
  // Nobody kicks for the chains that are already in the ring, or in flight from before.
  is_pending_ = true;
  return absl::OkStatus();
}

absl::Status Vring::SetCall(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(call_, Notifier::Adopt(std::move(fd)));
  // The driver may have missed the notification of chains that were pushed before.
  if (queue_ && call_) call_.Signal();
  return absl::OkStatus();
}

absl::Status Vring::SetError(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(error_, Notifier::Adopt(std::move(fd)));
  return absl::OkStatus();
}

absl::Status Vring::KickInBand() {
  MarkKicked();
  return Start();
}

void Vring::TakeKick() {
  if (!kick_) return;
  if (const absl::Status status = kick_.Drain(); !status.ok()) {
    // The descriptor would stay readable, and the loop would never sleep again.
    context_.poller.Remove(kick_.fd());
    kick_.reset();
    Fail(status);
    return;
  }
  MarkKicked();
}

void Vring::MarkKicked() {
  is_pending_ = true;
  // The driver may have mapped the address since the front-end refused it: ask again.
  if (miss_ == Miss::kRefused) miss_ = Miss::kNone;
}

Virtqueue::Options Vring::options() const {
  const Negotiation& negotiation = context_.negotiation;
  return {.index = index_,
          .size = size_,
          .is_packed = negotiation.has(VirtioFeature::kRingPacked),
          .has_indirect = negotiation.has(VirtioFeature::kIndirectDesc),
          .has_event_idx = negotiation.has(VirtioFeature::kEventIdx)};
}

absl::StatusOr<GuestSpan> Vring::FindPart(uint64_t address, uint64_t size) {
  std::optional<uint64_t> miss;
  absl::StatusOr<GuestSpan> part = context_.memory.FindRingPart(address, size, miss);
  if (!part.ok()) {
    return CheckError(EINVAL, absl::StrCat("virtqueue ", index_, ": ", part.status().message()));
  }
  if (miss) AskForMiss(*miss, kIotlbRead | kIotlbWrite);
  return part;
}

absl::StatusOr<std::optional<Virtqueue::Memory>> Vring::FindRing() {
  if (!address_) return std::nullopt;
  const Virtqueue::Sizes sizes = Virtqueue::SizesOf(options());
  Virtqueue::Memory ring;
  GMEM_ASSIGN_OR_RETURN(ring.descriptors, FindPart(address_->descriptor, sizes.descriptors));
  GMEM_ASSIGN_OR_RETURN(ring.used, FindPart(address_->used, sizes.used));
  GMEM_ASSIGN_OR_RETURN(ring.available, FindPart(address_->available, sizes.available));
  if (ring.descriptors.empty() || ring.used.empty() || ring.available.empty()) {
    return std::nullopt;
  }
  return ring;
}

void Vring::AskForMiss(uint64_t iova, uint8_t permissions) {
  // One request at a time: Refresh() asks for the next.
  if (miss_ != Miss::kNone) return;
  miss_ = Miss::kAsked;
  if (!context_.channel.is_open()) return;
  const IotlbMessage miss = {.iova = iova,
                             .size = 0,
                             .user_address = 0,
                             .permissions = permissions,
                             .type = IotlbType::kMiss,
                             .padding = {}};
  context_.channel.Start<BackendRequest::kIotlbMsg>(
      miss, {}, [this](const absl::StatusOr<Message*>& reply) { HandleMissReply(reply.status()); });
}

void Vring::HandleMissReply(const absl::Status& reply) {
  // The translation itself comes as a request of the front-end.
  if (reply.ok()) return;
  if (GetErrno(reply) == EIO) {
    // A front-end that refuses would refuse again, so wait for an update or a kick. A driver with
    // event indices doesn't kick unless it is asked to.
    if (miss_ == Miss::kAsked) miss_ = Miss::kRefused;
    if (queue_) queue_->EnableKicks();
    return;
  }
  miss_ = Miss::kNone;
  is_pending_ = true;
}

void Vring::UpdateLog(const std::optional<Virtqueue::Memory>& ring) {
  const DirtyMarks* const log = context_.memory.log();
  bool log_ring = ring && (address_->flags & kVringLog) != 0;
  uint64_t address = address_->log;
  const bool is_packed = context_.negotiation.has(VirtioFeature::kRingPacked);
  if (log != nullptr && log_ring && (is_packed || context_.memory.is_translated())) {
    // The front-end's address is that of the used part, and may be an I/O virtual address. But the
    // log takes guest addresses, and a packed ring is written where its descriptors are.
    const GuestSpan written = is_packed ? ring->descriptors : ring->used;
    const std::optional<uint64_t> guest_address = context_.memory.map().ToGuest(written.data());
    log_ring = guest_address.has_value();
    address = guest_address.value_or(0);
  }
  queue_->set_log(log, log_ring, address);
}

void Vring::Refresh() {
  if (miss_ != Miss::kNone) {
    miss_ = Miss::kNone;
    is_pending_ = true;
  }
  if (!queue_) return;
  const bool was_reachable = queue_->is_reachable();
  absl::StatusOr<std::optional<Virtqueue::Memory>> ring = FindRing();
  absl::Status status = ring.status();
  if (!status.ok()) ring = std::nullopt;
  // Update the log first: Move() writes the completions that wait for the ring.
  UpdateLog(*ring);
  status.Update(queue_->Move(*ring));
  if (!status.ok()) Fail(status);
  if (was_reachable || !queue_->is_reachable()) return;
  queue_->Notify();
  is_pending_ = true;
}

absl::Status Vring::Start() {
  if (queue_ || has_failed_) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(const std::optional<Virtqueue::Memory> ring, FindRing());
  if (!ring || size_ == 0) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(Virtqueue queue,
                        Virtqueue::Create(context_.memory.map(), options(), *ring, base_));
  if (context_.inflight.is_valid()) {
    const GuestSpan region = context_.inflight.queue(index_);
    const InflightArea& area = context_.inflight.area();
    if (region.empty() || size_ > area.queue_size) {
      return CheckError(EINVAL, absl::StrCat("virtqueue ", index_, " of ", size_,
                                             " entries has no place in an inflight buffer for ",
                                             area.nr_queues, " queues of ", area.queue_size));
    }
    GMEM_RETURN_IF_ERROR(queue.TrackInflight(region));
  }
  queue_.emplace(std::move(queue));
  queue_->set_call([this] { Call(); });
  UpdateLog(ring);
  context_.device.QueueStarted(context_.backend, *queue_);
  return absl::OkStatus();
}

void Vring::Serve() {
  if (std::exchange(is_call_due_, false)) Call();
  if (is_polled_) is_pending_ = true;
  if (!is_pending_ || has_failed_ || is_stopping_) return;
  if (const absl::Status status = Start(); !status.ok()) {
    Fail(status);
    return;
  }
  if (queue_) ServeStarted();
}

void Vring::ServeStarted() {
  Virtqueue& queue = *queue_;
  is_pending_ = false;
  const uint32_t base = queue.base();
  absl::Status status;
  if (is_enabled_) {
    queue.DisableKicks();
    status = context_.device.HandleQueue(context_.backend, queue);
  } else {
    // The device may leave all chains in the ring: only a kick announces more.
    queue.EnableKicks();
    status = context_.device.HandleDisabledQueue(context_.backend, queue);
  }
  queue.Notify();
  if (!status.ok() || !queue.status().ok()) {
    Fail(status.ok() ? queue.status() : status);
    return;
  }
  if (queue.miss()) {
    AskForMiss(queue.miss()->address, static_cast<uint8_t>(queue.miss()->access));
    return;
  }
  const bool has_more = is_enabled_ ? queue.EnableKicks() : queue.base() != base;
  if (has_more && !is_polled_) {
    is_pending_ = true;
    context_.poller.Wake();
  }
}

void Vring::Fail(const absl::Status& why) {
  if (has_failed_) return;
  has_failed_ = true;
  is_pending_ = false;
  context_.negotiation.RequestReset();
  context_.device.QueueFailed(index_, why);
  if (error_) {
    error_.Signal();
  } else if (context_.negotiation.has(ProtocolFeature::kInbandNotifications) &&
             context_.channel.is_open()) {
    context_.channel.Start<BackendRequest::kVringErr>({.index = index_, .num = 0}, {},
                                                      [](const absl::StatusOr<Message*>&) {});
  }
}

void Vring::Call() {
  context_.memory.NotifyLog();
  if (call_) {
    call_.Signal();
  } else if (context_.negotiation.has(ProtocolFeature::kInbandNotifications) &&
             context_.channel.is_open()) {
    context_.channel.Start<BackendRequest::kVringCall>(
        {.index = index_, .num = 0}, {}, [this](const absl::StatusOr<Message*>& reply) {
          // The channel is full. An answer of the front-end makes room, and wakes the loop.
          if (GetErrno(reply.status()) == ENOMEM) is_call_due_ = true;
        });
  }
}

void Vring::BeginStop() {
  is_stopping_ = true;
  if (in_flight() > 0) context_.device.QueueStopping(context_.backend, *queue_);
}

bool Vring::can_stop() const {
  const bool is_noted = context_.negotiation.has(ProtocolFeature::kGetVringBaseInflight) &&
                        context_.inflight.is_valid();
  return in_flight() == 0 || has_failed_ || is_noted;
}

uint32_t Vring::Stop() {
  context_.poller.Remove(kick_.fd());
  kick_.reset();
  is_polled_ = has_failed_ = is_pending_ = is_stopping_ = false;
  miss_ = Miss::kNone;
  if (queue_) {
    base_ = queue_->base();
    queue_.reset();
    context_.device.QueueStopped(index_);
  }
  return base_;
}

}  // namespace gmem::vhost::backend_internal
