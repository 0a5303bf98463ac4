// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/session.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/frontend/backend_channel.h"

namespace gmem::vhost::frontend_internal {
namespace {

// The CallOnce() that waits for a request.
struct Waiter {
  const Session::Reply& reply;
  const bool has_reply;
  bool is_done = false;
  absl::Status status;

  void Finish(const absl::StatusOr<Message*>& answer) {
    is_done = true;
    status = answer.status();
    if (!answer.ok() || *answer == nullptr) return;
    const absl::Span<const uint8_t> bytes = (*answer)->bytes();
    // An acknowledgement's payload is no reply.
    const size_t size = has_reply ? std::min(bytes.size(), reply.payload.size()) : 0;
    if (size > 0) std::memcpy(reply.payload.data(), bytes.data(), size);
    if (reply.fds != nullptr) *reply.fds = std::move((*answer)->fds);
  }
};

}  // namespace

Session::Deadline::Deadline(Session& session) : session_(session), before_(session.deadline_) {
  if (!before_) session.deadline_ = internal::Uptime() + session.timeout_;
}

absl::Status Session::Attach(Connection connection) {
  if (!connection.is_connected()) return internal::CheckError(ENOTCONN, "not connected");
  main_ = std::make_unique<Requester>(std::move(connection), timeout_);
  main_entry_ = {};
  backend_.ForgetEnd();
  wants_close_ = false;
  has_ended_ = false;
  Watch();
  return absl::OkStatus();
}

void Session::Watch() {
  if (main_->status().ok()) {
    events_.Watch(main_->fd(), EPOLLIN | (main_->wants_write() ? EPOLLOUT : 0u), main_entry_);
  }
  backend_.Watch(events_);
}

absl::Status Session::Process() {
  if (is_busy_) return absl::FailedPreconditionError("Process() was called from a callback");
  {
    const Busy busy(*this);
    main_->Process().IgnoreError();
    ServeBackend();
  }
  return status();
}

void Session::ServeBackend() {
  backend_.Serve([this] { return !wants_close_ && main_->status().ok(); });
}

// Sleeps until there is something to do, and does it. If that sets @is_done, leaves the back-end's
// requests for later: they may be younger than the answer, and the caller has to deal with the
// answer first.
void Session::Wait(const bool& is_done) {
  events_.Wait(std::min(main_->time_left(), *deadline_ - internal::Uptime()));
  const Busy busy(*this);
  main_->Process().IgnoreError();
  if (!is_done) ServeBackend();
}

// Does what callbacks and errors have asked for, when no callback runs.
void Session::Settle() {
  is_busy_ = true;
  if (wants_close_) main_->Close(absl::CancelledError("the connection was closed"));
  if (!main_->status().ok() && !has_ended_) {
    has_ended_ = true;
    backend_.Close(main_->status());
    client_.OnEnd(main_->status());
  }
  is_busy_ = false;
  Watch();
}

void Session::Close() {
  const Busy busy(*this);
  wants_close_ = true;
}

void Session::End(absl::Status why) {
  const Busy busy(*this);
  main_->Close(std::move(why));
}

void Session::Shutdown() {
  // Keep this set: no Busy calls Settle() from now on.
  is_busy_ = true;
  if (main_ != nullptr) main_->Close(absl::CancelledError("the front-end is going"));
  backend_.Close(absl::OkStatus());
}

void Session::Start(FrontendRequest request, const Format& format,
                    absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                    Requester::Done done, bool want_ack) {
  const Busy busy(*this);
  main_->StartFormat(static_cast<uint32_t>(request), format, payload, fds, std::move(done),
                     want_ack);
}

absl::Status Session::Call(FrontendRequest request, const Format& format,
                           absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                           Confirm confirm, const Reply& reply) {
  const Deadline deadline(*this);
  if (confirm != Confirm::kAlways || format.has_reply || main_->reply_ack()) {
    return CallOnce(request, format, payload, fds, confirm != Confirm::kNo, reply);
  }
  GMEM_RETURN_IF_ERROR(CallOnce(request, format, payload, fds, /*want_ack=*/false, reply));
  return CallOnce(FrontendRequest::kGetFeatures, *FindFormat(FrontendRequest::kGetFeatures), {}, {},
                  /*want_ack=*/false, {});
}

absl::Status Session::CallOnce(FrontendRequest request, const Format& format,
                               absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                               bool want_ack, const Reply& reply) {
  if (is_busy_) {
    return absl::FailedPreconditionError(absl::StrCat(
        format.name, " would wait, which a callback must not: use Start(), or call it later"));
  }
  const Deadline deadline(*this);
  Waiter waiter = {.reply = reply, .has_reply = format.has_reply, .is_done = false, .status = {}};
  Start(
      request, format, payload, fds,
      [&waiter](const absl::StatusOr<Message*>& answer) { waiter.Finish(answer); }, want_ack);
  while (!waiter.is_done) {
    Wait(waiter.is_done);
    // The end of the connection finishes all that is under way, this request, too.
    if (!waiter.is_done && internal::Uptime() >= *deadline_) {
      End(internal::CheckError(
          ETIMEDOUT, absl::StrCat("no answer to ", format.name, " in the ",
                                  absl::FormatDuration(timeout_), " for all that the call sends")));
    }
  }
  return waiter.status;
}

}  // namespace gmem::vhost::frontend_internal
