// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/session.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/poller.h"
#include "vhost/queue/peer_pages.h"

namespace gmem::vhost::backend_internal {

using internal::CheckError;
using virtqueue_internal::PeerPages;

absl::Status Session::Open() {
  GMEM_RETURN_IF_ERROR(requests_.Watch());
  // No thread has begun.
  parts_.lanes->TakeAll();
  GMEM_RETURN_IF_ERROR(parts_.threads.Start());
  is_open_ = true;
  parts_.device.Connected(parts_.backend);
  Resume();
  return absl::OkStatus();
}

bool Session::can_close() {
  if (parts_.lanes->TakeAll()) return true;
  ReportMissingPages();
  return false;
}

void Session::Close() {
  ReportMissingPages();
  parts_.lanes->WaitTaken();
  parts_.threads.End();
  parts_.vrings.StopAll();
  parts_.channel.Close(CheckError(ECONNRESET, "the session is over"));
  if (is_open_) parts_.device.Disconnected();
}

void Session::ReportMissingPages() {
  if (parts_.postcopy.serves_faults()) parts_.device.PostcopyFailed();
}

void Session::Resume() {
  // Later, a thread may be in a call of the device.
  patience_ = parts_.device.stop_timeout();
  parts_.threads.Resume();
}

absl::Time Session::next_deadline() const {
  // Until the threads have given their batons, Process() does nothing else.
  if (take_deadline_ != absl::InfiniteDuration()) {
    constexpr absl::Duration kPause = absl::Seconds(1);
    const absl::Duration left = take_deadline_ - internal::Uptime();
    // See CheckTakeTime().
    return absl::Now() + (parts_.postcopy.serves_faults() ? std::min(left, kPause) : left);
  }
  absl::Time deadline =
      std::min(parts_.channel.next_deadline(), absl::Now() + requests_.time_left());
  if (!parts_.lanes->at(0).has_thread() && parts_.vrings.wants_poll()) {
    deadline = std::min(deadline, absl::Now() + Backend::kPollInterval);
  }
  return deadline;
}

absl::Status Session::Process() {
  if (!status_.ok()) return status_;
  if (!parts_.lanes->TakeAll()) return status_ = CheckTakeTime();
  take_deadline_ = absl::InfiniteDuration();
  status_ = ProcessOnce();
  if (status_.ok()) Resume();
  return status_;
}

absl::Status Session::CheckTakeTime() {
  const absl::Duration now = internal::Uptime();
  if (take_deadline_ == absl::InfiniteDuration()) take_deadline_ = now + patience_;
  // A call of the device that waits for a page keeps its baton, and the loop doesn't see the end of
  // the front-end that should bring it.
  if (parts_.postcopy.serves_faults() && has_frontend_gone()) ReportMissingPages();
  if (take_deadline_ > now) return absl::OkStatus();
  return CheckError(ETIMEDOUT, absl::StrCat("a call of the device for a virtqueue hasn't returned ",
                                            "after ", absl::FormatDuration(patience_)));
}

void Session::Post(Lane::Work work) {
  {
    const internal::MutexLock lock(&mutex_);
    posted_.push_back(std::move(work));
  }
  parts_.poller.Wake();
}

void Session::RunPosted() {
  std::vector<Lane::Work> posted;
  {
    const internal::MutexLock lock(&mutex_);
    posted.swap(posted_);
  }
  for (Lane::Work& work : posted) work();
}

absl::Status Session::ProcessOnce() {
  GMEM_RETURN_IF_ERROR(ProcessEvents());
  RunPosted();
  parts_.channel.Process();
  parts_.state.Advance(parts_.vrings.has_started());
  if (parts_.lanes->at(0).has_thread()) {
    parts_.vrings.AttendAll();
  } else {
    parts_.lanes->at(0).RunPosted();
    parts_.vrings.ServeAll();
  }
  GMEM_RETURN_IF_ERROR(CheckMemory());
  parts_.memory.map().DropRetired();
  GMEM_RETURN_IF_ERROR(requests_.AnswerDue());
  requests_.UpdateEvents();
  return absl::OkStatus();
}

absl::Status Session::CheckMemory() {
  const uint64_t nr_broken = PeerPages::NrBroken();
  if (nr_broken == nr_broken_) return absl::OkStatus();
  nr_broken_ = nr_broken;
  if (!parts_.memory.map().is_broken() && !parts_.memory.is_log_broken() &&
      !parts_.inflight.is_broken()) {
    return absl::OkStatus();
  }
  return CheckError(EBADMSG,
                    "SIGBUS: the front-end has shortened a file that is mapped here, its file "
                    "system is full, or the page of a view is lent or revoked");
}

absl::Status Session::ProcessEvents() {
  GMEM_ASSIGN_OR_RETURN(const absl::Span<const Poller::Event> events, parts_.poller.Poll());
  bool has_requests = false;
  for (const Poller::Event& event : events) {
    switch (event.source) {
      case Poller::Source::kFrontend:
        if (event.is_hangup && requests_.is_answer_due()) {
          return CheckError(ECONNRESET, "the front-end has gone while it waited for an answer");
        }
        has_requests = true;
        break;
      case Poller::Source::kKick:
        parts_.vrings.at(event.index).TakeKick();
        break;
      case Poller::Source::kWatched:
        parts_.lanes->at(0).RunWatched(event.index);
        break;
      // Process() serves the channel in each round.
      case Poller::Source::kChannel:
      case Poller::Source::kWake:
        break;
    }
  }
  // Take requests after all other events: a request may close the descriptor of an event.
  return has_requests && !requests_.is_answer_due() ? requests_.Take() : absl::OkStatus();
}

}  // namespace gmem::vhost::backend_internal
