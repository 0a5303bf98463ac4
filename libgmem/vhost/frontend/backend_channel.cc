// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/backend_channel.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"
#include "vhost/frontend/event_set.h"

namespace gmem::vhost::frontend_internal {

absl::StatusOr<UniqueFd> BackendChannel::Open(bool reply_ack) {
  GMEM_ASSIGN_OR_RETURN(auto pair, Connection::Pair());
  responder_ = std::make_unique<Responder>(std::move(pair.first), Responder::Side::kBackend);
  responder_->set_reply_ack(reply_ack);
  entry_ = {};
  return std::move(pair.second);
}

void BackendChannel::Close(absl::Status why) {
  responder_.reset();
  status_ = std::move(why);
  client_.OnChannelClosed();
}

void BackendChannel::Serve(absl::FunctionRef<bool()> may_go_on) {
  for (int i = 0; i < Frontend::kMaxRequestsAtOnce; i++) {
    if (responder_ == nullptr || !may_go_on()) return;
    const absl::StatusOr<Responder::Request> request = responder_->Next();
    if (!request.ok()) return Close(request.status());
    if (request->message == nullptr) return;
    absl::Status status = Answer(*request);
    if (!status.ok()) return Close(std::move(status));
  }
}

void BackendChannel::Watch(const EventSet& events) {
  if (responder_ == nullptr) return;
  // The responder takes no request while an answer waits to be sent.
  events.Watch(responder_->fd(), responder_->wants_write() ? EPOLLOUT : EPOLLIN, entry_);
}

// Returns an error only if the channel breaks.
absl::Status BackendChannel::Answer(const Responder::Request& request) {
  const Outcome outcome =
      request.status.ok() ? client_.Handle(*request.message) : Outcome{.status = request.status};
  const Format* const format =
      FindFormat(static_cast<BackendRequest>(request.message->header.request));
  if (format != nullptr && format->has_reply) return Reply(outcome);
  if (!outcome.status.ok()) nr_refused_++;
  return responder_->Acknowledge(outcome.status);
}

absl::Status BackendChannel::Reply(const Outcome& outcome) {
  absl::Status status = outcome.status;
  if (status.ok()) {
    const size_t nr_fds = outcome.fd < 0 ? 0 : 1;
    status = responder_->Reply(AsBytes(uint64_t{0}), absl::MakeConstSpan(&outcome.fd, nr_fds));
    if (status.ok()) return status;
  }
  nr_refused_++;
  // If the descriptor made the first reply fail, this second reply succeeds. If the socket did,
  // this reply fails, too.
  return responder_->Reply(AsBytes(static_cast<uint64_t>(GetErrno(status).value_or(EIO))));
}

}  // namespace gmem::vhost::frontend_internal
