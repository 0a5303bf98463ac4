// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lib/scripted_backend.h"

#include <poll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"

namespace gmem::vhost::peers {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr uint64_t kQueues = 2;

}  // namespace

void ScriptedBackend::Step(absl::Duration timeout) {
  std::array<pollfd, 2> fds = {
      pollfd{.fd = main_ ? main_->fd() : listener_->fd(), .events = POLLIN, .revents = 0},
      pollfd{.fd = backend_ ? backend_->fd() : -1, .events = POLLIN, .revents = 0}};
  if (main_ && main_->wants_write()) fds[0].events |= POLLOUT;
  if (backend_ && backend_->wants_write()) fds[1].events |= POLLOUT;
  if (poll(fds.data(), fds.size(), static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) {
    return;
  }
  if (main_ == nullptr) {
    auto connection = listener_->Accept();
    if (!connection.ok() || !connection->has_value()) return;
    main_ = std::make_unique<Responder>(*std::move(*connection), Responder::Side::kFrontend);
    return;
  }
  if (fds[1].revents != 0) backend_->Process().IgnoreError();
  if (fds[0].revents == 0) return;
  if (const absl::Status status = Serve(); !status.ok()) Disconnect(status);
}

bool ScriptedBackend::StepUntil(absl::FunctionRef<bool()> condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    Step(absl::Milliseconds(10));
  }
  return true;
}

void ScriptedBackend::Disconnect(absl::Status why) {
  status_ = std::move(why);
  main_ = nullptr;
  if (backend_ != nullptr) backend_->Close(status_);
  enabled_.clear();
  nr_regions_ = 0;
}

absl::Status ScriptedBackend::Serve() {
  while (true) {
    GMEM_ASSIGN_OR_RETURN(const Responder::Request request, main_->Next());
    if (request.message == nullptr) return absl::OkStatus();
    GMEM_RETURN_IF_ERROR(request.status);
    nr_requests_++;
    GMEM_RETURN_IF_ERROR(Answer(*request.message));
  }
}

absl::Status ScriptedBackend::Answer(Message& message) {
  switch (static_cast<FrontendRequest>(message.header.request)) {
    case FrontendRequest::kGetFeatures:
      return main_->Reply(
          AsBytes(Bit(VirtioFeature::kVersion1) | Bit(VirtioFeature::kProtocolFeatures)));
    case FrontendRequest::kGetProtocolFeatures:
      return main_->Reply(AsBytes(options_.protocol_features));
    case FrontendRequest::kSetProtocolFeatures: {
      const auto features = FromBytes<uint64_t>(message.bytes());
      main_->set_reply_ack((features & Bit(ProtocolFeature::kReplyAck)) != 0);
      break;
    }
    case FrontendRequest::kGetQueueNum:
      return main_->Reply(AsBytes(kQueues));
    case FrontendRequest::kGetMaxMemSlots:
      return main_->Reply(AsBytes(uint64_t{kMaxMemorySlots}));
    case FrontendRequest::kGetConfig:
      return main_->Reply(message.bytes());
    case FrontendRequest::kGetVringBase: {
      auto state = FromBytes<VringState>(message.bytes());
      enabled_[state.index] = false;
      state.num = 0;
      return main_->Reply(AsBytes(state));
    }
    case FrontendRequest::kGetShmemConfig: {
      ShmemConfig config = {};
      for (size_t i = 0; i < options_.shmem_sizes.size(); i++) {
        config.sizes[i] = options_.shmem_sizes[i];
        config.nr_regions += config.sizes[i] != 0 ? 1 : 0;
      }
      return main_->Reply(AsBytes(config));
    }
    case FrontendRequest::kSetBackendReqFd: {
      GMEM_ASSIGN_OR_RETURN(Connection connection, Connection::Adopt(message.fds.Take(0)));
      backend_ = std::make_unique<Requester>(std::move(connection));
      backend_->set_reply_ack(main_->reply_ack());
      break;
    }
    case FrontendRequest::kSetVringEnable: {
      const auto state = FromBytes<VringState>(message.bytes());
      enabled_[state.index] = state.num != 0;
      break;
    }
    case FrontendRequest::kSetMemTable:
      nr_regions_ = FromBytes<MemoryTable>(message.bytes()).nr_regions;
      break;
    case FrontendRequest::kAddMemReg:
      nr_regions_++;
      break;
    case FrontendRequest::kRemMemReg:
      nr_regions_--;
      break;
    default:
      if (FindFormat(static_cast<FrontendRequest>(message.header.request))->has_reply) {
        return absl::UnimplementedError("the scripted back-end has no answer to this request");
      }
  }
  return main_->Acknowledge(absl::OkStatus());
}

template <BackendRequest kRequest>
absl::Status ScriptedBackend::Ask(const ShmemMapping& mapping, absl::Span<const int> fds) {
  if (backend_ == nullptr) return absl::FailedPreconditionError("no back-end channel");
  std::optional<absl::Status> result;
  backend_->Start<kRequest>(mapping, fds,
                            [&result](absl::StatusOr<Message*> reply) { result = reply.status(); });
  if (!StepUntil([&result] { return result.has_value(); })) {
    // End the request: its callback refers to this function's variables.
    backend_->Close(absl::DeadlineExceededError("the front-end doesn't answer"));
  }
  return *result;
}

absl::Status ScriptedBackend::Map(const ShmemMapping& mapping, int fd) {
  return Ask<BackendRequest::kShmemMap>(mapping, {fd});
}

absl::Status ScriptedBackend::Unmap(const ShmemMapping& mapping) {
  return Ask<BackendRequest::kShmemUnmap>(mapping, {});
}

}  // namespace gmem::vhost::peers
