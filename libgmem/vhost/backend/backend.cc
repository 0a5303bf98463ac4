// SPDX-License-Identifier: Apache-2.0
// The loop, and the requests of the back-end's own.
#include "gmem/vhost/backend.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "vhost/backend/events.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// Requests, and events, of one Process(): the owner's loop has others to look after.
constexpr size_t kMaxRequests = 32;
constexpr size_t kMaxEvents = 32;

absl::Status CheckDevice(const Device& device) {
  if (device.nr_queues() == 0 || device.nr_queues() > kMaxQueues ||
      device.config_size() > kMaxConfigSize) {
    return CheckError(
        EINVAL, absl::StrCat("a device with ", device.nr_queues(), " queues and ",
                             device.config_size(), " bytes of configuration: 1 to ", kMaxQueues,
                             " and at most ", kMaxConfigSize, " are possible"));
  }
  const std::vector<uint64_t> sizes = device.shmem_sizes();
  const auto is_bad = [](uint64_t size) { return size % HostPageSize().value() != 0; };
  if (sizes.size() > kMaxShmemRegions || std::any_of(sizes.begin(), sizes.end(), is_bad)) {
    return CheckError(EINVAL, absl::StrCat("a device's shared memory regions: at most ",
                                           kMaxShmemRegions, ", of whole pages"));
  }
  return absl::OkStatus();
}

}  // namespace

Backend::Backend(Connection connection, Device& device, absl::Duration timeout)
    : device_(device),
      timeout_(timeout),
      responder_(std::move(connection), Responder::Side::kFrontend),
      vrings_(device.nr_queues()) {}

absl::StatusOr<std::unique_ptr<Backend>> Backend::Create(Connection connection, Device& device,
                                                         absl::Duration timeout) {
  GMEM_RETURN_IF_ERROR(CheckDevice(device));
  std::unique_ptr<Backend> backend(new Backend(std::move(connection), device, timeout));
  GMEM_RETURN_IF_ERROR(backend->Init());
  backend->is_connected_ = true;
  device.Connected(*backend);
  return backend;
}

Backend::~Backend() {
  for (size_t i = 0; i < vrings_.size(); i++) StopQueue(i);
  if (channel_ != nullptr) channel_->Close(CheckError(ECONNRESET, "the session is over"));
  if (is_connected_) device_.Disconnected();
}

absl::Status Backend::Init() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_) return ErrnoError(errno, "can't make a loop for a session");
  GMEM_RETURN_IF_ERROR(Watch(wake_.get(), kWakeToken, EPOLLIN, /*is_new=*/true));
  main_events_ = EPOLLIN;
  return Watch(responder_.fd(), kMainToken, main_events_, /*is_new=*/true);
}

absl::Status Backend::Watch(int fd, uint64_t token, uint32_t events, bool is_new) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = token;
  if (epoll_ctl(epoll_.get(), is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0) {
    return ErrnoError(errno, absl::StrCat("can't wait for descriptor ", fd));
  }
  return absl::OkStatus();
}

// Closing isn't enough: the front-end has the same file.
void Backend::Unwatch(int fd) {
  if (fd >= 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Backend::UnwatchChannel() {
  Unwatch(channel_watch_.get());
  channel_watch_.reset();
}

void Backend::Wake() {
  const uint64_t one = 1;
  // Its counter can't be full.
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void Backend::UpdateEvents() {
  const uint32_t main_events =
      (is_busy() ? 0U : uint32_t{EPOLLIN}) | (responder_.wants_write() ? uint32_t{EPOLLOUT} : 0U);
  if (main_events != main_events_ &&
      Watch(responder_.fd(), kMainToken, main_events, /*is_new=*/false).ok()) {
    main_events_ = main_events;
  }
  if (!has_channel()) return;
  const uint32_t events = EPOLLIN | (channel_->wants_write() ? uint32_t{EPOLLOUT} : 0U);
  if (events != channel_events_ &&
      Watch(channel_watch_.get(), kChannelToken, events, /*is_new=*/false).ok()) {
    channel_events_ = events;
  }
}

absl::Time Backend::next_deadline() const {
  // What GET_VRING_BASE waits for, a device may push from elsewhere, without a word.
  if (base_asked_ || std::any_of(vrings_.begin(), vrings_.end(), [](const Vring& vring) {
        return vring.is_polled && vring.queue && !vring.has_failed;
      })) {
    return absl::Now() + kPollInterval;
  }
  return has_channel() ? channel_->next_deadline() : absl::InfiniteFuture();
}

absl::Status Backend::Process() {
  if (!status_.ok()) return status_;
  absl::Status status = ProcessEvents();
  if (status.ok()) {
    // A front-end that doesn't answer, or has closed this channel, may do without it.
    if (has_channel()) channel_->Process().IgnoreError();
    if (!has_channel()) UnwatchChannel();
    ServeQueues();
    if (base_asked_) status = AnswerVringBase();
  }
  if (status.ok() && nr_in_flight() == 0) memory_.DropRetired();
  if (!status.ok()) {
    status_ = status;
    return status_;
  }
  UpdateEvents();
  return absl::OkStatus();
}

absl::Status Backend::ProcessEvents() {
  std::array<epoll_event, kMaxEvents> events;
  const int count = epoll_wait(epoll_.get(), events.data(), kMaxEvents, 0);
  if (count < 0 && errno != EINTR) return ErrnoError(errno, "can't wait for a session's events");
  bool has_requests = false;
  for (int i = 0; i < count; i++) {
    const uint64_t token = events[i].data.u64;
    if (token == kMainToken) {
      if ((events[i].events & (EPOLLHUP | EPOLLERR)) != 0 && is_answer_due()) {
        return CheckError(ECONNRESET, "the front-end has gone while it waited for an answer");
      }
      has_requests = true;
    } else if (token == kWakeToken) {
      uint64_t value = 0;
      [[maybe_unused]] const ssize_t got = read(wake_.get(), &value, sizeof(value));
    } else if (token == kStateToken) {
      AdvanceState();
      if (is_state_asked_ && transfer_ && !transfer_->fd) GMEM_RETURN_IF_ERROR(AnswerState());
    } else if (token >= kKickToken) {
      GMEM_RETURN_IF_ERROR(Kick(token - kKickToken));
    }
  }
  // Last: a request may close what the other events are about.
  return has_requests && !is_answer_due() ? ProcessRequests() : absl::OkStatus();
}

absl::Status Backend::ProcessRequests() {
  for (size_t i = 0; i < kMaxRequests; i++) {
    GMEM_ASSIGN_OR_RETURN(const Responder::Request request, responder_.Next());
    if (request.message == nullptr) break;
    absl::Status status = request.status;
    if (status.ok()) status = Handle(*request.message);
    if (!status.ok()) {
      // Who can't be told, must not go on as if it had worked.
      if (!responder_.can_refuse()) return status;
      GMEM_RETURN_IF_ERROR(responder_.Acknowledge(status));
    }
    if (is_busy()) break;
  }
  return absl::OkStatus();
}

template <auto kRequest>
void Backend::Ask(ProtocolFeature feature, const typename RequestTraits<kRequest>::Payload& payload,
                  absl::Span<const int> fds, Done done) {
  if (!has_channel() || !has_feature(feature) ||
      (!fds.empty() && !has_feature(ProtocolFeature::kBackendSendFd))) {
    done(CheckError(ENOTCONN, absl::StrCat("can't ask the front-end for ", Name(kRequest),
                                           ": there is no channel, or it wasn't negotiated")));
    return;
  }
  channel_->Start<kRequest>(
      payload, fds, [done = std::move(done)](const absl::StatusOr<Message*>& reply) mutable {
        done(reply.status());
      });
  UpdateEvents();
}

void Backend::ShmemMap(const ShmemMapping& mapping, int fd, Done done) {
  Ask<BackendRequest::kShmemMap>(ProtocolFeature::kShmemMap, mapping, {fd}, std::move(done));
}

void Backend::ShmemUnmap(const ShmemMapping& mapping, Done done) {
  Ask<BackendRequest::kShmemUnmap>(ProtocolFeature::kShmemMap, mapping, {}, std::move(done));
}

void Backend::ConfigChanged(Done done) {
  Ask<BackendRequest::kConfigChangeMsg>(ProtocolFeature::kConfig, {}, {}, std::move(done));
}

void Backend::SetHostNotifier(uint16_t queue, int fd, uint64_t offset, uint64_t size, Done done) {
  const VringArea area = {
      .vring = queue | (fd < 0 ? kVringNoFd : 0), .size = size, .offset = offset};
  Ask<BackendRequest::kVringHostNotifierMsg>(
      ProtocolFeature::kHostNotifier, area,
      fd < 0 ? absl::Span<const int>() : absl::MakeConstSpan(&fd, 1), std::move(done));
}

void Backend::AddSharedObject(const Uuid& uuid, Done done) {
  Ask<BackendRequest::kSharedObjectAdd>(ProtocolFeature::kSharedObject, uuid, {}, std::move(done));
}

void Backend::RemoveSharedObject(const Uuid& uuid, Done done) {
  Ask<BackendRequest::kSharedObjectRemove>(ProtocolFeature::kSharedObject, uuid, {},
                                           std::move(done));
}

void Backend::LookUpSharedObject(const Uuid& uuid,
                                 absl::AnyInvocable<void(absl::StatusOr<UniqueFd>)> done) {
  if (!has_channel() || !has_feature(ProtocolFeature::kSharedObject)) {
    done(CheckError(ENOTCONN,
                    "can't ask the front-end for a shared object: it wasn't "
                    "negotiated, or there is no channel"));
    return;
  }
  channel_->Start<BackendRequest::kSharedObjectLookup>(
      uuid, {}, [done = std::move(done)](const absl::StatusOr<Message*>& reply) mutable {
        if (!reply.ok()) return done(reply.status());
        UniqueFd fd = (*reply)->fds.Take(0);
        if (!fd) return done(CheckError(ENOENT, "nobody has added this shared object"));
        done(std::move(fd));
      });
  UpdateEvents();
}

absl::Status Backend::Wait(const std::optional<absl::Status>& result) {
  while (!result) {
    pollfd poll_fd = {.fd = channel_->fd(), .events = POLLIN, .revents = 0};
    if (channel_->wants_write()) poll_fd.events |= POLLOUT;
    // Whatever is due; poll() takes an int.
    const absl::Duration left =
        std::clamp(channel_->time_left(), absl::ZeroDuration(), absl::Minutes(1));
    poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    // At the deadline at the latest, this ends all that is under way.
    channel_->Process().IgnoreError();
  }
  return *result;
}

absl::Status Backend::ShmemMapAndWait(const ShmemMapping& mapping, int fd) {
  std::optional<absl::Status> result;
  ShmemMap(mapping, fd, [&result](absl::Status status) { result = std::move(status); });
  return Wait(result);
}

absl::Status Backend::ShmemUnmapAndWait(const ShmemMapping& mapping) {
  std::optional<absl::Status> result;
  ShmemUnmap(mapping, [&result](absl::Status status) { result = std::move(status); });
  return Wait(result);
}

}  // namespace gmem::vhost
