// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/backend.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/backend/device_requests.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/parts.h"
#include "vhost/backend/run_loop.h"
#include "vhost/backend/session.h"

namespace gmem::vhost {
namespace {

using backend_internal::Lane;
using backend_internal::Lanes;
using backend_internal::Parts;
using backend_internal::Session;
using internal::CheckError;

// FailedPrecondition (ENOTCONN) unless the front-end can be asked for @request now.
absl::Status CheckCanAsk(const Parts& parts, BackendRequest request, ProtocolFeature feature,
                         bool has_fd) {
  if (parts.channel.is_open() && parts.negotiation.has(feature) &&
      (!has_fd || parts.negotiation.has(ProtocolFeature::kBackendSendFd))) {
    return absl::OkStatus();
  }
  return CheckError(ENOTCONN, absl::StrCat("can't ask the front-end for ", Name(request),
                                           ": there is no channel, or it wasn't negotiated"));
}

template <BackendRequest kRequest>
void Ask(Parts& parts, ProtocolFeature feature,
         const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
         Backend::Done done) {
  if (absl::Status status = CheckCanAsk(parts, kRequest, feature, !fds.empty()); !status.ok()) {
    done(std::move(status));
    return;
  }
  parts.channel.Start<kRequest>(
      payload, fds, [done = std::move(done)](const absl::StatusOr<Message*>& reply) mutable {
        done(reply.status());
      });
}

}  // namespace

Backend::Backend() = default;

absl::StatusOr<std::unique_ptr<Backend>> Backend::Create(Connection connection, Device& device,
                                                         absl::Duration timeout) {
  return Create(std::move(connection), device, Options{.timeout = timeout});
}

absl::StatusOr<std::unique_ptr<Backend>> Backend::Create(Connection connection, Device& device,
                                                         const Options& options) {
  GMEM_RETURN_IF_ERROR(backend_internal::CheckDevice(device));
  GMEM_ASSIGN_OR_RETURN(std::unique_ptr<Lanes> lanes,
                        Lanes::Create(device, options.has_queue_threads));
  std::unique_ptr<Backend> backend(new Backend());
  backend->session_ = std::make_unique<Session>(*backend, device, std::move(connection),
                                                std::move(lanes), options.timeout);
  GMEM_RETURN_IF_ERROR(backend->session_->Open());
  return backend;
}

Backend::~Backend() { session_->Close(); }

int Backend::fd() const { return session_->fd(); }
absl::Time Backend::next_deadline() const { return session_->next_deadline(); }
absl::Status Backend::Process() { return session_->Process(); }
absl::Status Backend::Run(int stop_fd) { return backend_internal::RunLoop(*this, stop_fd); }
bool Backend::can_end() { return session_->can_close(); }
bool Backend::has_frontend_gone() const { return session_->has_frontend_gone(); }

bool Backend::has_feature(VirtioFeature feature) const {
  return session_->parts().negotiation.has(feature);
}
bool Backend::has_feature(ProtocolFeature feature) const {
  return session_->parts().negotiation.has(feature);
}
uint64_t Backend::features() const { return session_->parts().negotiation.features(); }
const GuestMemoryMap& Backend::memory() const { return session_->parts().memory.map(); }

bool Backend::is_enabled(size_t index) const {
  const auto& vrings = session_->parts().vrings;
  return index < vrings.size() && vrings.at(index).is_enabled();
}

Virtqueue* Backend::queue(size_t index) {
  Parts& parts = session_->parts();
  if (index >= parts.vrings.size()) return nullptr;
  auto& vring = parts.vrings.at(index);
  const bool is_alone = !Lane::IsAnyHere() && parts.lanes->are_taken();
  return vring.lane().is_here() || is_alone ? vring.queue() : nullptr;
}

QueueCounters Backend::counters(size_t index) const {
  const auto& vrings = session_->parts().vrings;
  if (index >= vrings.size()) return {};
  const auto& counters = vrings.at(index).counters();
  return {.kicks = counters.kicks.get(),
          .calls = counters.calls.get(),
          .chains = counters.chains.get(),
          .bytes = counters.bytes.get(),
          .errors = counters.errors.get()};
}

absl::Status Backend::Watch(uint16_t queue, int fd, absl::AnyInvocable<void()> ready) {
  GMEM_ASSIGN_OR_RETURN(auto* const vring, session_->parts().vrings.Find(queue));
  return vring->lane().Watch(fd, std::move(ready));
}

void Backend::Unwatch(uint16_t queue, int fd) {
  auto& vrings = session_->parts().vrings;
  if (queue < vrings.size()) vrings.at(queue).lane().Unwatch(fd);
}

void Backend::RunOnQueue(uint16_t queue, absl::AnyInvocable<void()> work) {
  auto& vrings = session_->parts().vrings;
  if (queue < vrings.size()) vrings.at(queue).lane().Post(std::move(work));
}

void Backend::RunInSession(absl::AnyInvocable<void()> work) { session_->Post(std::move(work)); }

bool Backend::has_channel() const { return session_->parts().channel.is_open(); }

void Backend::ShmemMap(const ShmemMapping& mapping, int fd, Done done) {
  Ask<BackendRequest::kShmemMap>(session_->parts(), ProtocolFeature::kShmemMap, mapping, {fd},
                                 std::move(done));
}

void Backend::ShmemUnmap(const ShmemMapping& mapping, Done done) {
  Ask<BackendRequest::kShmemUnmap>(session_->parts(), ProtocolFeature::kShmemMap, mapping, {},
                                   std::move(done));
}

void Backend::ConfigChanged(Done done) {
  Ask<BackendRequest::kConfigChangeMsg>(session_->parts(), ProtocolFeature::kConfig, {}, {},
                                        std::move(done));
}

void Backend::SetHostNotifier(uint16_t queue, int fd, uint64_t offset, uint64_t size, Done done) {
  const VringArea area = {
      .vring = queue | (fd < 0 ? kVringNoFd : 0), .size = size, .offset = offset};
  Ask<BackendRequest::kVringHostNotifierMsg>(
      session_->parts(), ProtocolFeature::kHostNotifier, area,
      fd < 0 ? absl::Span<const int>() : absl::MakeConstSpan(&fd, 1), std::move(done));
}

void Backend::AddSharedObject(const Uuid& uuid, Done done) {
  Ask<BackendRequest::kSharedObjectAdd>(session_->parts(), ProtocolFeature::kSharedObject, uuid, {},
                                        std::move(done));
}

void Backend::RemoveSharedObject(const Uuid& uuid, Done done) {
  Ask<BackendRequest::kSharedObjectRemove>(session_->parts(), ProtocolFeature::kSharedObject, uuid,
                                           {}, std::move(done));
}

void Backend::LookUpSharedObject(const Uuid& uuid,
                                 absl::AnyInvocable<void(absl::StatusOr<UniqueFd>)> done) {
  constexpr auto kRequest = BackendRequest::kSharedObjectLookup;
  Parts& parts = session_->parts();
  if (absl::Status status =
          CheckCanAsk(parts, kRequest, ProtocolFeature::kSharedObject, /*has_fd=*/false);
      !status.ok()) {
    done(std::move(status));
    return;
  }
  parts.channel.Start<kRequest>(
      uuid, {}, [done = std::move(done)](const absl::StatusOr<Message*>& reply) mutable {
        if (!reply.ok()) return done(reply.status());
        UniqueFd fd = (*reply)->fds.Take(0);
        if (!fd) return done(CheckError(ENOENT, "nobody has added this shared object"));
        done(std::move(fd));
      });
}

absl::Status Backend::ShmemMapAndWait(const ShmemMapping& mapping, int fd) {
  std::optional<absl::Status> result;
  ShmemMap(mapping, fd, [&result](absl::Status status) { result = std::move(status); });
  return session_->parts().channel.Wait(result);
}

absl::Status Backend::ShmemUnmapAndWait(const ShmemMapping& mapping) {
  std::optional<absl::Status> result;
  ShmemUnmap(mapping, [&result](absl::Status status) { result = std::move(status); });
  return session_->parts().channel.Wait(result);
}

}  // namespace gmem::vhost
