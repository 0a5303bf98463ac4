// SPDX-License-Identifier: Apache-2.0
// The front-end's two channels, and who waits for them.
#include "gmem/vhost/frontend.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"

namespace gmem::vhost {
namespace {

// For epoll_wait(): not earlier, or the last millisecond would be spent spinning.
int ToMilliseconds(absl::Duration duration) {
  const int64_t rounded_up = absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1)));
  return static_cast<int>(std::clamp<int64_t>(rounded_up, 0, INT_MAX));
}

}  // namespace

Frontend::Frontend(Options options, Handler* handler)
    : options_(std::move(options)),
      handler_(handler == nullptr ? &no_handler_ : handler),
      shmem_(std::move(options_.shmem_factory)) {}

absl::StatusOr<std::unique_ptr<Frontend>> Frontend::Create(Connection connection, Options options,
                                                           Handler* handler) {
  if (options.shmem_factory == nullptr) {
    options.protocol_features &= ~Bit(ProtocolFeature::kShmemMap);
  }
  if (options.shared_objects == nullptr) {
    options.protocol_features &= ~Bit(ProtocolFeature::kSharedObject);
  }
  auto frontend = absl::WrapUnique(new Frontend(std::move(options), handler));
  frontend->epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!frontend->epoll_) return internal::ErrnoError(errno, "can't make an epoll descriptor");
  GMEM_RETURN_IF_ERROR(frontend->Attach(std::move(connection)));
  return frontend;
}

Frontend::~Frontend() {
  is_busy_ = true;
  // Nobody is there any more to be told of the end; the guest's view is cleared.
  if (main_ != nullptr) main_->Close(absl::CancelledError("the front-end is going"));
  EndBackendChannel(absl::OkStatus());
}

absl::Status Frontend::Attach(Connection connection) {
  if (!connection.is_connected()) return internal::CheckError(ENOTCONN, "not connected");
  main_ = std::make_unique<Requester>(std::move(connection), options_.timeout);
  main_events_ = 0;
  backend_status_ = absl::OkStatus();
  wants_close_ = false;
  has_ended_ = false;
  Watch();
  return absl::OkStatus();
}

Frontend::Deadline::Deadline(Frontend& frontend)
    : frontend_(frontend), before_(frontend.deadline_) {
  if (!before_) frontend.deadline_ = internal::Uptime() + frontend.options_.timeout;
}

void Frontend::Watch(int fd, uint32_t& watched, uint32_t events) {
  if (events == watched) return;
  epoll_event event = {};
  event.events = events;
  // Can fail only for want of memory; Wait() has its deadlines then.
  if (epoll_ctl(epoll_.get(), watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) == 0) {
    watched = events;
  }
}

void Frontend::Watch() {
  if (main_->status().ok()) {
    Watch(main_->fd(), main_events_, EPOLLIN | (main_->wants_write() ? EPOLLOUT : 0u));
  }
  if (backend_ != nullptr) {
    // A request is taken when the one before is answered.
    Watch(backend_->fd(), backend_events_, backend_->wants_write() ? EPOLLOUT : EPOLLIN);
  }
}

// Until there is something to do, and does that. If @is_done is set by it, the back-end's
// requests, which may be younger than that answer, wait until it has been dealt with.
void Frontend::Wait(const bool& is_done) {
  pollfd polled = {.fd = epoll_.get(), .events = POLLIN, .revents = 0};
  poll(&polled, 1, ToMilliseconds(std::min(main_->time_left(), *deadline_ - internal::Uptime())));
  const Busy busy(*this);
  main_->Process().IgnoreError();
  if (!is_done) ProcessBackend();
}

absl::Status Frontend::Process() {
  if (is_busy_) return absl::FailedPreconditionError("Process() was called from a callback");
  {
    const Busy busy(*this);
    main_->Process().IgnoreError();
    ProcessBackend();
  }
  return status();
}

void Frontend::Settle() {
  is_busy_ = true;
  if (wants_close_) main_->Close(absl::CancelledError("the connection was closed"));
  if (!main_->status().ok() && !has_ended_) {
    has_ended_ = true;
    EndBackendChannel(main_->status());
    faults_.reset();
    is_postcopy_ = false;
    is_negotiated_ = false;
    handler_->OnDisconnect(main_->status());
  }
  is_busy_ = false;
  Watch();
}

void Frontend::Close() {
  const Busy busy(*this);
  wants_close_ = true;
}

void Frontend::End(absl::Status why) {
  const Busy busy(*this);
  main_->Close(std::move(why));
}

void Frontend::EndBackendChannel(absl::Status why) {
  backend_.reset();
  backend_events_ = 0;
  backend_status_ = std::move(why);
  UnmapAll().IgnoreError();
  if (options_.shared_objects != nullptr) options_.shared_objects->RemoveAll(this);
}

absl::Status Frontend::UnmapAll() {
  while (!notifiers_.empty()) RemoveNotifier(notifiers_.begin()->first).IgnoreError();
  return shmem_.UnmapAll();
}

void Frontend::StartFormat(uint32_t request, const Format& format,
                           absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                           Requester::Done done, bool want_ack) {
  const Busy busy(*this);
  main_->StartFormat(request, format, payload, fds, std::move(done), want_ack);
}

absl::Status Frontend::CallFormat(uint32_t request, const Format& format,
                                  absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                                  Confirm confirm, absl::FunctionRef<void(Message&)> take_reply) {
  const Deadline deadline(*this);
  if (confirm != Confirm::kAlways || format.has_reply || main_->reply_ack()) {
    return CallOnce(request, format, payload, fds, confirm != Confirm::kNo, take_reply);
  }
  GMEM_RETURN_IF_ERROR(CallOnce(request, format, payload, fds, /*want_ack=*/false, take_reply));
  return CallOnce(static_cast<uint32_t>(FrontendRequest::kGetFeatures),
                  *FindFormat(FrontendRequest::kGetFeatures), {}, {}, /*want_ack=*/false,
                  [](Message& /*features*/) {});
}

absl::Status Frontend::CallOnce(uint32_t request, const Format& format,
                                absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                                bool want_ack, absl::FunctionRef<void(Message&)> take_reply) {
  if (is_busy_) {
    return absl::FailedPreconditionError(absl::StrCat(
        format.name, " would wait, inside of a callback: use Start(), or wait until it is over"));
  }
  const Deadline deadline(*this);
  struct Waiter {
    absl::FunctionRef<void(Message&)> take_reply;
    bool is_done = false;
    absl::Status status;
  } waiter = {.take_reply = take_reply, .is_done = false, .status = {}};
  StartFormat(
      request, format, payload, fds,
      [&waiter](absl::StatusOr<Message*> reply) {
        waiter.is_done = true;
        waiter.status = reply.status();
        if (reply.ok() && *reply != nullptr) waiter.take_reply(**reply);
      },
      want_ack);
  while (!waiter.is_done) {
    Wait(waiter.is_done);
    // The end of the connection is the end of all that is under way.
    if (!waiter.is_done && internal::Uptime() >= *deadline_) {
      End(internal::CheckError(ETIMEDOUT, absl::StrCat("no answer to ", format.name, " in the ",
                                                       absl::FormatDuration(options_.timeout),
                                                       " for all that the call sends")));
    }
  }
  return waiter.status;
}

absl::Status Frontend::Need(ProtocolFeature feature, absl::string_view what) const {
  if (Has(feature)) return absl::OkStatus();
  return internal::CheckError(
      EOPNOTSUPP, absl::StrCat(what, " needs protocol feature ", static_cast<unsigned>(feature),
                               ", which isn't negotiated"));
}

}  // namespace gmem::vhost
