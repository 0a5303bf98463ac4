// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/channel.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/requester.h"
#include "vhost/backend/poller.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;

absl::Status BackendChannel::Open(UniqueFd socket, bool reply_ack) {
  GMEM_ASSIGN_OR_RETURN(UniqueFd watch, UniqueFd::Duplicate(socket.get()));
  GMEM_ASSIGN_OR_RETURN(Connection connection, Connection::Adopt(std::move(socket)));
  GMEM_RETURN_IF_ERROR(poller_.Add(watch.get(), EPOLLIN, Poller::Source::kChannel));
  Close(CheckError(ECONNRESET, "the front-end has replaced the channel"));
  Unwatch();
  watch_ = std::move(watch);
  events_ = EPOLLIN;
  requester_ = std::make_unique<Requester>(std::move(connection), timeout_);
  requester_->set_reply_ack(reply_ack);
  return absl::OkStatus();
}

void BackendChannel::set_reply_ack(bool reply_ack) {
  if (requester_ != nullptr) requester_->set_reply_ack(reply_ack);
}

void BackendChannel::Process() {
  if (is_open()) requester_->Process().IgnoreError();
  if (is_open()) {
    UpdateEvents();
  } else {
    Unwatch();
  }
}

absl::Time BackendChannel::next_deadline() const {
  return is_open() ? requester_->next_deadline() : absl::InfiniteFuture();
}

void BackendChannel::UpdateEvents() {
  if (!is_open()) return;
  const uint32_t events = EPOLLIN | (requester_->wants_write() ? uint32_t{EPOLLOUT} : 0U);
  if (events != events_ && poller_.Change(watch_.get(), events, Poller::Source::kChannel).ok()) {
    events_ = events;
  }
}

void BackendChannel::Unwatch() {
  poller_.Remove(watch_.get());
  watch_.reset();
}

absl::Status BackendChannel::Wait(const std::optional<absl::Status>& result) {
  while (!result) {
    pollfd poll_fd = {.fd = requester_->fd(), .events = POLLIN, .revents = 0};
    if (requester_->wants_write()) poll_fd.events |= POLLOUT;
    // poll() takes an int.
    const absl::Duration left =
        std::clamp(requester_->time_left(), absl::ZeroDuration(), absl::Minutes(1));
    poll(&poll_fd, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    // This ends all requests when the deadline has passed, so that the loop ends.
    requester_->Process().IgnoreError();
  }
  UpdateEvents();
  return *result;
}

void BackendChannel::Close(const absl::Status& status) {
  if (requester_ != nullptr) requester_->Close(status);
}

}  // namespace gmem::vhost::backend_internal
