// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/requester.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

// The error for an acknowledgement that isn't 0. Some peers send an errno, positive or negative.
absl::Status Refusal(const Format& format, uint64_t ack) {
  constexpr uint64_t kMaxErrno = 4095;
  const uint64_t error = ack > kMaxErrno ? 0 - ack : ack;
  const char* const name = error <= kMaxErrno ? strerrorname_np(static_cast<int>(error)) : nullptr;
  return CheckError(EIO,
                    absl::StrCat("the peer refused ", format.name, ": ", static_cast<int64_t>(ack),
                                 name == nullptr ? "" : absl::StrCat(" (", name, "?)")));
}

// True if the message can't be sent as it is, and no part of it was sent: the channel is unchanged.
// The cause is a bad descriptor, or too many descriptors in flight in the whole system
// (ETOOMANYREFS).
bool IsOfMessage(const absl::Status& status) {
  const int error = GetErrno(status).value_or(0);
  return error == EBADF || error == EINVAL || error == ETOOMANYREFS;
}

}  // namespace

absl::Duration Requester::time_left() const {
  if (is_idle()) return absl::InfiniteDuration();
  // Queued requests started later than the outstanding ones.
  const absl::Duration deadline =
      nr_outstanding_ > 0 ? outstanding_[first_].deadline : queue_.front().deadline;
  return deadline - internal::Uptime();
}

void Requester::StartFormat(uint32_t request, const Format& format,
                            absl::Span<const uint8_t> payload, absl::Span<const int> fds, Done done,
                            bool want_ack) {
  if (!status_.ok()) {
    done(status_);
    return;
  }
  const absl::Duration deadline = internal::Uptime() + timeout_;
  if (queue_.empty()) {
    const absl::StatusOr<Sent> sent =
        TrySend(request, format, payload, fds, want_ack, deadline, done);
    if (!sent.ok()) {
      if (!IsOfMessage(sent.status())) Close(sent.status());
      done(sent.status());
      return;
    }
    if (*sent == Sent::kDone) done(nullptr);
    if (*sent != Sent::kNot) return;
  }
  const absl::Status status = Enqueue(request, format, payload, fds, want_ack, deadline, done);
  if (!status.ok()) done(status);
}

absl::StatusOr<Requester::Sent> Requester::TrySend(uint32_t request, const Format& format,
                                                   absl::Span<const uint8_t> payload,
                                                   absl::Span<const int> fds, bool want_ack,
                                                   absl::Duration deadline, Done& done) {
  const bool is_ack = !format.has_reply && want_ack && reply_ack_;
  const bool is_answered = format.has_reply || is_ack;
  if (is_answered && nr_outstanding_ == kMaxOutstanding) return Sent::kNot;
  GMEM_ASSIGN_OR_RETURN(
      const bool sent,
      connection_.Send(request, kVersion | (is_ack ? kFlagNeedReply : 0), payload, fds));
  if (!sent) return Sent::kNot;
  if (!is_answered) return Sent::kDone;
  outstanding_[(first_ + nr_outstanding_++) % kMaxOutstanding] = {.request = request,
                                                                  .format = &format,
                                                                  .is_ack = is_ack,
                                                                  .deadline = deadline,
                                                                  .done = std::move(done)};
  return Sent::kAwaitsAnswer;
}

absl::Status Requester::Enqueue(uint32_t request, const Format& format,
                                absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                                bool want_ack, absl::Duration deadline, Done& done) {
  if (is_full()) {
    return CheckError(
        ENOMEM, absl::StrCat(kMaxQueued, " requests already wait for the peer: try again later"));
  }
  Queued queued = {.request = request,
                   .format = &format,
                   .payload = {payload.begin(), payload.end()},
                   .fds = {},
                   .want_ack = want_ack,
                   .deadline = deadline,
                   .done = nullptr};
  for (const int fd : fds) {
    GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(fd));
    queued.fds.Add(std::move(copy));
  }
  queued.done = std::move(done);
  queue_.push_back(std::move(queued));
  return absl::OkStatus();
}

absl::Status Requester::SendQueued() {
  while (!queue_.empty()) {
    Queued& next = queue_.front();
    std::array<int, kMaxFds> fds;
    for (size_t i = 0; i < next.fds.size(); i++) fds[i] = next.fds.get(i);
    const absl::StatusOr<Sent> sent = TrySend(next.request, *next.format, next.payload,
                                              absl::MakeConstSpan(fds.data(), next.fds.size()),
                                              next.want_ack, next.deadline, next.done);
    if (!sent.ok() && !IsOfMessage(sent.status())) return sent.status();
    if (sent.ok() && *sent == Sent::kNot) break;
    Done done = std::move(next.done);
    queue_.pop_front();
    // The callback may start further requests, or close the channel.
    if (!sent.ok()) {
      done(sent.status());
    } else if (*sent == Sent::kDone) {
      done(nullptr);
    }
  }
  return absl::OkStatus();
}

absl::Status Requester::HandleReply() {
  if (nr_outstanding_ == 0) {
    return CheckError(EBADMSG, absl::StrCat("message ", message_.header.request,
                                            " came as a reply, but no request is under way"));
  }
  Outstanding& oldest = outstanding_[first_];
  GMEM_RETURN_IF_ERROR(CheckReply(message_, oldest.request, *oldest.format, oldest.is_ack));
  Outstanding request = std::exchange(oldest, Outstanding());
  first_ = (first_ + 1) % kMaxOutstanding;
  nr_outstanding_--;
  if (request.is_ack) {
    const auto ack = FromBytes<uint64_t>(message_.bytes());
    if (ack != 0) {
      request.done(Refusal(*request.format, ack));
      return absl::OkStatus();
    }
  }
  request.done(&message_);
  return absl::OkStatus();
}

absl::Status Requester::Advance() {
  GMEM_RETURN_IF_ERROR(connection_.Flush());
  while (true) {
    // A callback may have closed the channel.
    if (!status_.ok()) return status_;
    GMEM_ASSIGN_OR_RETURN(const bool received, connection_.Receive(message_));
    if (!received) break;
    GMEM_RETURN_IF_ERROR(HandleReply());
  }
  GMEM_RETURN_IF_ERROR(SendQueued());
  if (!status_.ok()) return status_;
  if (time_left() > absl::ZeroDuration()) return absl::OkStatus();
  const Format& late = nr_outstanding_ > 0 ? *outstanding_[first_].format : *queue_.front().format;
  return CheckError(
      ETIMEDOUT, absl::StrCat("no answer to ", late.name, " in ", absl::FormatDuration(timeout_)));
}

absl::Status Requester::Process() {
  if (!status_.ok()) return status_;
  const absl::Status status = Advance();
  if (!status.ok()) Close(status);
  return status_;
}

void Requester::Close(absl::Status status) {
  if (!status_.ok()) return;
  status_ = std::move(status);
  connection_.Close();
  while (nr_outstanding_ > 0) {
    Done done = std::move(outstanding_[first_].done);
    first_ = (first_ + 1) % kMaxOutstanding;
    nr_outstanding_--;
    done(status_);
  }
  while (!queue_.empty()) {
    Done done = std::move(queue_.front().done);
    queue_.pop_front();
    done(status_);
  }
}

}  // namespace gmem::vhost
