// SPDX-License-Identifier: MIT OR Apache-2.0
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
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/memory.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/backend/poller.h"
#include "vhost/queue/probes.h"

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
  Restart();
  return absl::OkStatus();
}

absl::Status Vring::Enable(uint32_t value) {
  if (value > 1) {
    return CheckError(EINVAL, absl::StrCat("SET_VRING_ENABLE to ", value, ": 0 or 1"));
  }
  is_enabled_ = value == 1;
  // A virtqueue that hasn't started waits for SET_VRING_KICK.
  if (queue_) is_pending_ = true;
  return absl::OkStatus();
}

absl::Status Vring::SetKick(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(Notifier kick, Notifier::Adopt(std::move(fd)));
  if (kick) {
    // Each write is an event once: a semaphore with a huge counter stays readable after each read.
    GMEM_RETURN_IF_ERROR(
        lane_.poller().Add(kick.fd(), EPOLLIN | EPOLLET, Poller::Source::kKick, index_));
  }
  lane_.poller().Remove(kick_.fd());
  kick_ = std::move(kick);
  is_polled_ = !kick_;
  // Nobody kicks for the chains that are already in the ring, or in flight from before.
  is_pending_ = true;
  return absl::OkStatus();
}

absl::Status Vring::SetCall(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(call_, Notifier::Adopt(std::move(fd)));
  // The driver may have missed the notification of chains that were pushed before.
  if (queue_ && call_) call_.Signal(lane_.signaler());
  return absl::OkStatus();
}

absl::Status Vring::SetError(UniqueFd fd) {
  GMEM_ASSIGN_OR_RETURN(error_, Notifier::Adopt(std::move(fd)));
  return absl::OkStatus();
}

absl::Status Vring::KickInBand() {
  counters_.kicks.Add(1);
  GMEM_PROBE1(kick, index_);
  MarkKicked();
  return Start();
}

void Vring::TakeKick() {
  if (!kick_) return;
  if (const absl::Status status = kick_.Drain(); !status.ok()) {
    // The descriptor would stay readable, and the loop would never sleep again.
    lane_.poller().Remove(kick_.fd());
    kick_.reset();
    if (failure_.ok()) failure_ = status;
    WakeSession();
    return;
  }
  counters_.kicks.Add(1);
  GMEM_PROBE1(kick, index_);
  MarkKicked();
  // Only the session's loop starts a virtqueue.
  if (lane_.has_thread() && (!queue_ || is_retry_due_)) WakeSession();
}

void Vring::MarkKicked() {
  is_pending_ = true;
  // The driver may have mapped the address since the front-end refused it.
  is_retry_due_ |= is_miss_refused_;
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
  // The first part that is missing is asked for.
  GMEM_ASSIGN_OR_RETURN(ring.descriptors, FindPart(address_->descriptor, sizes.descriptors));
  if (ring.descriptors.empty()) return std::nullopt;
  GMEM_ASSIGN_OR_RETURN(ring.used, FindPart(address_->used, sizes.used));
  if (ring.used.empty()) return std::nullopt;
  GMEM_ASSIGN_OR_RETURN(ring.available, FindPart(address_->available, sizes.available));
  if (ring.available.empty()) return std::nullopt;
  return ring;
}

bool Vring::IsRingIn(const IotlbMessage& change) const {
  if (!address_ || !context_.memory.is_translated()) return false;
  const Virtqueue::Sizes sizes = Virtqueue::SizesOf(options());
  const auto is_in = [&](uint64_t address, uint64_t size) {
    return size > 0 && address <= change.iova + (change.size - 1) &&
           change.iova <= address + (size - 1);
  };
  return is_in(address_->descriptor, sizes.descriptors) || is_in(address_->used, sizes.used) ||
         is_in(address_->available, sizes.available);
}

void Vring::AskForMiss(uint64_t iova, uint8_t permissions) {
  const IotlbMiss miss = IotlbMiss::Of(iova, permissions);
  if (miss_ == miss) return;
  miss_ = miss;
  is_miss_refused_ = false;
  misses_.Ask(iova, permissions);
}

void Vring::ForgetMiss() {
  if (miss_) is_pending_ = true;
  if (queue_) queue_->ForgetMiss();
  miss_.reset();
  is_miss_refused_ = false;
}

void Vring::HandleMissFailure(const IotlbMiss& miss, IotlbMisses::Failure failure) {
  if (!miss_ || miss_->page != miss.page || !miss_->IsAllowedBy(miss.permissions)) return;
  // Ask again in a later round: the channel may be full, and a thread would ask without a pause.
  if (failure == IotlbMisses::Failure::kLost) {
    is_retry_due_ = true;
    return;
  }
  // Another virtqueue has asked for more than this one needs: ask for that.
  if (miss_->permissions != miss.permissions) {
    ForgetMiss();
    return;
  }
  is_miss_refused_ = true;
  // The chain stays in the ring, so the next kick is for one behind it. One that came just before
  // this counts as a kick.
  if (queue_ && queue_->AwaitMore()) MarkKicked();
}

void Vring::HandleIotlb(const IotlbMessage& change) {
  if (miss_ && change.type == IotlbType::kUpdate && miss_->IsIn(change)) {
    // FindRingPart() needs only this. The request is for more, so that an answer to another
    // virtqueue doesn't take it away.
    const bool is_for_ring = !queue_ || !queue_->is_reachable();
    const uint8_t needed = is_for_ring ? uint8_t{kIotlbWrite} : miss_->permissions;
    if ((needed & ~change.permissions) == 0) {
      ForgetMiss();
    } else {
      HandleMissFailure(*miss_, IotlbMisses::Failure::kRefused);
    }
  }
  // The ring may have waited behind a chain.
  const bool is_away = queue_ && !queue_->is_reachable() && !miss_;
  if (is_away || IsRingIn(change)) Refresh();
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
  if (is_mark_due_ && log != nullptr && log_ring) {
    queue_->MarkRing();
    is_mark_due_ = false;
  }
}

void Vring::Restart() {
  ForgetMiss();
  Refresh();
}

void Vring::Refresh() {
  if (!queue_) return;
  const bool was_reachable = queue_->is_reachable();
  absl::StatusOr<std::optional<Virtqueue::Memory>> ring = FindRing();
  absl::Status status = ring.status();
  if (!status.ok()) ring = std::nullopt;
  // Update the log first: Move() writes the completions that wait for the ring.
  UpdateLog(*ring);
  status.Update(queue_->Move(*ring));
  if (!status.ok()) Fail(status);
  if (!queue_->is_reachable()) return;
  if (!was_reachable) queue_->Notify();
  // The memory of a chain may be there now.
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
  queue_->set_attention([this] { Notice(); });
  queue_->set_pause(lane_.is_wanted());
  queue_->set_counters(&counters_);
  // The back-end before this one may have been killed behind a push, before it marked that in the
  // log or told the driver.
  is_mark_due_ = context_.inflight.is_valid();
  UpdateLog(ring);
  if (context_.inflight.is_valid()) Call();
  context_.device.QueueStarted(context_.backend, *queue_);
  return absl::OkStatus();
}

void Vring::Attend() {
  if (std::exchange(is_call_due_, false)) CallInBand();
  if (const absl::Status why = std::exchange(failure_, absl::OkStatus()); !why.ok()) Fail(why);
  if (std::exchange(is_retry_due_, false)) {
    ForgetMiss();
    if (queue_ && !queue_->is_reachable()) Refresh();
  }
  if (has_failed_ || is_stopping_) return;
  if (queue_ && !queue_->status().ok()) {
    Fail(queue_->status());
    return;
  }
  if (queue_ && queue_->miss() && is_enabled()) {
    AskForMiss(queue_->miss()->address, static_cast<uint8_t>(queue_->miss()->access));
  }
  if (!is_pending_ && !is_polled_) return;
  if (const absl::Status status = Start(); !status.ok()) Fail(status);
}

bool Vring::wants_attention() const {
  return queue_->miss() || !queue_->status().ok() || !failure_.ok() ||
         context_.memory.map().nr_retired() > 0;
}

void Vring::ServeQueue() {
  if (is_polled_) is_pending_ = true;
  if (!CanServe() || !is_pending_) return;
  Virtqueue& queue = *queue_;
  is_pending_ = false;
  const uint64_t nr_popped = queue.nr_popped();
  const uint64_t last_pop = queue.last_pop();
  const bool was_enabled = is_enabled();
  const bool was_waited_for = std::exchange(is_waited_for_, false);
  bool has_new = false;
  if (!was_enabled) {
    // The device may leave all chains in the ring: only a kick announces more.
    queue.EnableKicks();
  } else if (was_waited_for) {
    // Before the device looks, so that it sees the chains that came without a kick.
    has_new = queue.AwaitMore();
  } else {
    queue.DisableKicks();
  }
  is_serving_ = true;
  const absl::Status status = was_enabled
                                  ? context_.device.HandleQueue(context_.backend, queue)
                                  : context_.device.HandleDisabledQueue(context_.backend, queue);
  is_serving_ = false;
  queue.Notify();
  if (!status.ok()) {
    if (queue.status().ok()) queue.GiveUpSince(last_pop);
    failure_ = status;
  }
  // Without a thread, Attend() follows.
  if (lane_.has_thread() && wants_attention()) WakeSession();
  if (!failure_.ok() || !queue.status().ok() || queue.miss()) return;
  const bool has_popped = queue.nr_popped() > nr_popped;
  bool has_more = has_popped;
  if (was_enabled && (has_popped || !was_waited_for)) {
    has_more = queue.EnableKicks();
    // Let the device look once more when kicks work, for what came just before. Then let it sleep.
    is_waited_for_ = has_more && !has_popped;
  } else if (was_enabled) {
    has_more = has_new;
    is_waited_for_ = true;
  }
  if (has_more && !is_polled_) {
    is_pending_ = true;
    lane_.Wake();
  }
}

void Vring::Notice() {
  // Pop() has brought nothing because the session asks for the baton: the chains that it left are
  // still to be served.
  if (const auto* wanted = lane_.is_wanted(); wanted != nullptr && *wanted) is_pending_ = true;
  if (is_serving_) return;
  if (is_stopping_ || wants_attention()) WakeSession();
}

void Vring::Fail(const absl::Status& why) {
  if (has_failed_) return;
  has_failed_ = true;
  is_pending_ = false;
  counters_.errors.Add(1);
  context_.negotiation.RequestReset();
  context_.device.QueueFailed(index_, why);
  if (error_) {
    error_.Signal(lane_.signaler());
  } else if (context_.negotiation.has(ProtocolFeature::kInbandNotifications) &&
             context_.channel.is_open()) {
    context_.channel.Start<BackendRequest::kVringErr>({.index = index_, .num = 0}, {},
                                                      [](const absl::StatusOr<Message*>&) {});
  }
}

void Vring::Call() {
  counters_.calls.Add(1);
  GMEM_PROBE1(call, index_);
  context_.memory.NotifyLog(lane_.signaler());
  if (call_) {
    call_.Signal(lane_.signaler());
  } else if (lane_.has_thread()) {
    is_call_due_ = true;
    WakeSession();
  } else {
    CallInBand();
  }
}

void Vring::CallInBand() {
  if (!context_.negotiation.has(ProtocolFeature::kInbandNotifications) ||
      !context_.channel.is_open()) {
    return;
  }
  context_.channel.Start<BackendRequest::kVringCall>({.index = index_, .num = 0}, {},
                                                     [this](const absl::StatusOr<Message*>& reply) {
                                                       // The channel is full. An answer of the
                                                       // front-end makes room, and wakes the loop.
                                                       if (GetErrno(reply.status()) == ENOMEM)
                                                         is_call_due_ = true;
                                                     });
}

void Vring::ReleaseMemory() {
  if (!queue_) return;
  if (context_.device.IsReceiveQueue(index_) && queue_->TakeBack() > 0) {
    // Nobody kicks for these chains again.
    is_pending_ = true;
    context_.device.ChainsTakenBack(context_.backend, *queue_);
  }
  if (queue_->HasRemovedMemory()) context_.device.MemoryRemoved(context_.backend, *queue_);
}

void Vring::BeginStop() {
  is_stopping_ = true;
  if (queue_) queue_->BeginStop();
  if (queue_ && context_.device.IsReceiveQueue(index_)) queue_->TakeBack();
  if (in_flight() > 0) context_.device.QueueStopping(context_.backend, *queue_);
}

bool Vring::can_stop() const {
  const bool is_noted = context_.negotiation.has(ProtocolFeature::kGetVringBaseInflight) &&
                        context_.inflight.is_valid();
  return in_flight() == 0 || is_noted;
}

uint32_t Vring::Stop() {
  lane_.poller().Remove(kick_.fd());
  kick_.reset();
  failure_ = absl::OkStatus();
  is_retry_due_ = false;
  is_polled_ = has_failed_ = is_pending_ = is_waited_for_ = is_stopping_ = false;
  miss_.reset();
  is_miss_refused_ = false;
  misses_.AskAgain();
  if (queue_) {
    base_ = queue_->base();
    queue_.reset();
    context_.device.QueueStopped(index_);
  }
  return base_;
}

}  // namespace gmem::vhost::backend_internal
