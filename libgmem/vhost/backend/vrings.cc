// SPDX-License-Identifier: Apache-2.0
// Virtqueues: from what the front-end says of them to a device that serves them.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
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
#include "gmem/vhost/backend.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/backend/events.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// An eventfd's counter, or a byte of a pipe, is taken. The front-end has the same file,
// and may have taken it before: that mustn't block.
absl::Status Drain(int fd) {
  uint64_t value = 0;
  const iovec iov = {.iov_base = &value, .iov_len = sizeof(value)};
  if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) >= 0 || errno == EAGAIN) return absl::OkStatus();
  return ErrnoError(errno, "can't read a virtqueue's kick");
}

void Signal(int fd) {
  const uint64_t one = 1;
  // Full says the same: there is something.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof(one));
}

}  // namespace

absl::Status Backend::PrepareEventFd(int fd) {
  struct stat state = {};
  // An eventfd has no file type. What is written to a pipe or socket may raise SIGPIPE,
  // and files may wait for who serves them.
  if (fstat(fd, &state) != 0 || (state.st_mode & S_IFMT) != 0) {
    return CheckError(EINVAL, "a descriptor for notifications is a file: use an eventfd");
  }
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return ErrnoError(errno, "can't use a descriptor for notifications");
  }
  return absl::OkStatus();
}

absl::StatusOr<Backend::Vring*> Backend::FindVring(uint32_t index) {
  // All 32 bits of it (CVE-2020-10723).
  if (index < vrings_.size()) return &vrings_[index];
  return CheckError(EINVAL,
                    absl::StrCat("there is no virtqueue ", index, ", only ", vrings_.size()));
}

absl::StatusOr<Backend::Vring*> Backend::FindStoppedVring(uint32_t index) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(index));
  if (!vring->queue) return vring;
  return CheckError(EBUSY,
                    absl::StrCat("virtqueue ", index, " works: stop it first (GET_VRING_BASE)"));
}

absl::Status Backend::SetVringFd(FrontendRequest request, uint64_t number, UniqueFd fd) {
  const size_t index = number & kVringIndexMask;
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(static_cast<uint32_t>(index)));
  if (fd) GMEM_RETURN_IF_ERROR(PrepareEventFd(fd.get()));
  if (request == FrontendRequest::kSetVringCall) {
    vring->call = std::move(fd);
    // What was pushed before was told nobody.
    if (vring->queue && vring->call) Signal(vring->call.get());
    return absl::OkStatus();
  }
  if (request == FrontendRequest::kSetVringErr) {
    vring->error = std::move(fd);
    return absl::OkStatus();
  }
  if (fd) GMEM_RETURN_IF_ERROR(Watch(fd.get(), kKickToken + index, EPOLLIN, /*is_new=*/true));
  Unwatch(vring->kick.get());
  vring->kick = std::move(fd);
  vring->is_polled = !vring->kick;
  // From here on it works: nobody kicks for what is there, or in flight from before.
  vring->is_pending = true;
  return absl::OkStatus();
}

absl::Status Backend::SetVringAddress(const VringAddress& address) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(address.index));
  if ((address.flags & ~kVringLog) != 0) {
    return CheckError(EINVAL, absl::StrCat("SET_VRING_ADDR with flags 0x", absl::Hex(address.flags),
                                           ": only 1 is known"));
  }
  const std::optional<VringAddress> old = std::exchange(vring->address, address);
  // What isn't there can't become it; but with an IOTLB it may still be told.
  if (!has_feature(VirtioFeature::kIommuPlatform) && vring->size > 0 && memory_.size() > 0 &&
      !FindRing(address.index).value_or(std::nullopt)) {
    vring->address = old;
    return CheckError(
        EINVAL, absl::StrCat("SET_VRING_ADDR: virtqueue ", address.index, " at 0x",
                             absl::Hex(address.descriptor), ", 0x", absl::Hex(address.available),
                             " and 0x", absl::Hex(address.used), " isn't all in memory"));
  }
  if (vring->queue) MoveRings();
  return absl::OkStatus();
}

Virtqueue::Options Backend::OptionsOf(size_t index) const {
  return {.index = static_cast<uint16_t>(index),
          .size = vrings_[index].size,
          .is_packed = has_feature(VirtioFeature::kRingPacked),
          .has_indirect = has_feature(VirtioFeature::kIndirectDesc),
          .has_event_idx = has_feature(VirtioFeature::kEventIdx)};
}

absl::Status Backend::Kick(size_t index) {
  Vring& vring = vrings_[index];
  if (!vring.kick) return absl::OkStatus();
  const absl::Status status = Drain(vring.kick.get());
  if (!status.ok()) {
    // It would be ready for ever.
    Unwatch(vring.kick.get());
    vring.kick.reset();
    FailQueue(index, status);
    return absl::OkStatus();
  }
  SetKicked(vring);
  return absl::OkStatus();
}

void Backend::SetKicked(Vring& vring) {
  vring.is_pending = true;
  // The driver may know better by now.
  if (vring.miss == Miss::kRefused) vring.miss = Miss::kNone;
}

absl::Status Backend::StartQueue(size_t index) {
  Vring& vring = vrings_[index];
  if (vring.queue || vring.has_failed) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(const std::optional<Virtqueue::Memory> ring, FindRing(index));
  // Not yet: the front-end hasn't said all, or the IOTLB has to be asked.
  if (!ring || vring.size == 0) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(Virtqueue queue,
                        Virtqueue::Create(memory_, OptionsOf(index), *ring, vring.base));
  if (inflight_.is_valid()) {
    const GuestSpan region = inflight_.queue(index);
    if (region.empty() || vring.size > inflight_.area().queue_size) {
      return CheckError(EINVAL, absl::StrCat("virtqueue ", index, " of ", vring.size,
                                             " entries has no place in an inflight buffer for ",
                                             inflight_.area().nr_queues, " queues of ",
                                             inflight_.area().queue_size));
    }
    GMEM_RETURN_IF_ERROR(queue.TrackInflight(region));
  }
  vring.queue.emplace(std::move(queue));
  vring.queue->set_call([this, index] { Call(index); });
  SetLog(vring, ring);
  device_.QueueStarted(*this, *vring.queue);
  return absl::OkStatus();
}

// It works again from its next SET_VRING_KICK on.
void Backend::StopQueue(size_t index) {
  Vring& vring = vrings_[index];
  Unwatch(vring.kick.get());
  vring.kick.reset();
  vring.is_polled = vring.has_failed = vring.is_pending = false;
  vring.miss = Miss::kNone;
  if (!vring.queue) return;
  vring.base = vring.queue->base();
  vring.queue.reset();
  device_.QueueStopped(static_cast<uint16_t>(index));
}

absl::Status Backend::GetVringBase(uint32_t index) {
  GMEM_ASSIGN_OR_RETURN(Vring* const vring, FindVring(index));
  base_asked_ = index;
  if (vring->queue && vring->queue->in_flight() > 0) {
    device_.QueueStopping(*this, *vring->queue);
  }
  return AnswerVringBase();
}

absl::Status Backend::AnswerVringBase() {
  const uint32_t index = *base_asked_;
  Vring& vring = vrings_[index];
  // What is in flight in a queue that has failed, may never be pushed. What is noted, is
  // done again.
  const bool is_noted = has_feature(ProtocolFeature::kGetVringBaseInflight) && inflight_.is_valid();
  if (vring.queue && vring.queue->in_flight() > 0 && !vring.has_failed && !is_noted) {
    return absl::OkStatus();
  }
  base_asked_.reset();
  StopQueue(index);
  const VringState state = {.index = index, .num = vring.base};
  return responder_.Reply(AsBytes(state));
}

void Backend::ServeQueues() {
  for (size_t i = 0; i < vrings_.size(); i++) {
    Vring& vring = vrings_[i];
    if (std::exchange(vring.is_call_due, false)) Call(i);
    if (vring.is_polled) vring.is_pending = true;
    if (!vring.is_pending || vring.has_failed || base_asked_ == i) continue;
    if (const absl::Status status = StartQueue(i); !status.ok()) {
      FailQueue(i, status);
      continue;
    }
    if (vring.queue) ServeQueue(i);
  }
}

void Backend::ServeQueue(size_t index) {
  Vring& vring = vrings_[index];
  Virtqueue& queue = *vring.queue;
  vring.is_pending = false;
  const uint32_t base = queue.base();
  absl::Status status;
  if (vring.is_enabled) {
    queue.DisableKicks();
    status = device_.HandleQueue(*this, queue);
  } else {
    // The device may leave all that is there: only a kick tells of more.
    queue.EnableKicks();
    status = device_.HandleDisabledQueue(*this, queue);
  }
  queue.Notify();
  if (!status.ok() || !queue.status().ok()) {
    FailQueue(index, status.ok() ? queue.status() : status);
    return;
  }
  if (queue.miss()) {
    AskForMiss(index, queue.miss()->address, static_cast<uint8_t>(queue.miss()->access));
    return;
  }
  const bool has_more = vring.is_enabled ? queue.EnableKicks() : queue.base() != base;
  if (has_more && !vring.is_polled) {
    vring.is_pending = true;
    Wake();
  }
}

// The driver's fault, or the device's: it is told, and has to start the queue again.
void Backend::FailQueue(size_t index, const absl::Status& why) {
  Vring& vring = vrings_[index];
  if (vring.has_failed) return;
  vring.has_failed = true;
  vring.is_pending = false;
  device_status_ |= static_cast<uint8_t>(DeviceStatus::kNeedsReset);
  device_.QueueFailed(static_cast<uint16_t>(index), why);
  if (vring.error) {
    Signal(vring.error.get());
  } else if (has_feature(ProtocolFeature::kInbandNotifications) && has_channel()) {
    channel_->Start<BackendRequest::kVringErr>({.index = static_cast<uint32_t>(index), .num = 0},
                                               {}, [](const absl::StatusOr<Message*>&) {});
  }
}

void Backend::Call(size_t index) {
  Vring& vring = vrings_[index];
  if (log_fd_ && has_feature(VirtioFeature::kLogAll)) Signal(log_fd_.get());
  if (vring.call) {
    Signal(vring.call.get());
  } else if (has_feature(ProtocolFeature::kInbandNotifications) && has_channel()) {
    channel_->Start<BackendRequest::kVringCall>(
        {.index = static_cast<uint32_t>(index), .num = 0}, {},
        [this, index](const absl::StatusOr<Message*>& reply) {
          // Too many wait: it takes more when the front-end has answered, which wakes us.
          if (GetErrno(reply.status()) == ENOMEM) vrings_[index].is_call_due = true;
        });
  }
}

bool Backend::has_started() const {
  return std::any_of(vrings_.begin(), vrings_.end(),
                     [](const Vring& vring) { return vring.queue.has_value(); });
}

size_t Backend::nr_in_flight() const {
  size_t count = 0;
  for (const Vring& vring : vrings_) count += vring.queue ? vring.queue->in_flight() : 0;
  return count;
}

}  // namespace gmem::vhost
