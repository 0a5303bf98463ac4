// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/queue_threads.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/backend.h"
#include "vhost/backend/baton.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/poller.h"
#include "vhost/backend/vring.h"
#include "vhost/queue/peer_pages.h"

namespace gmem::vhost::backend_internal {

using virtqueue_internal::PeerPages;

namespace {

// The program's signals are for its own threads. The signals of faults are for the thread that
// causes them: blocked, they would end the process.
sigset_t SignalsToBlock() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
    sigdelset(&signals, fault);
  }
  return signals;
}

}  // namespace

absl::Status QueueThreads::Start() {
  if (!lanes_.at(0).has_thread()) return absl::OkStatus();
  threads_.resize(lanes_.size());
  for (size_t i = 0; i < lanes_.size(); i++) {
    threads_[i] = {.owner = this, .lane = &lanes_.at(i), .vrings = {}, .thread = {}};
  }
  for (size_t i = 0; i < vrings_.size(); i++) {
    Lane* const lane = &lanes_.of(static_cast<uint16_t>(i));
    const auto thread = std::find_if(threads_.begin(), threads_.end(),
                                     [lane](const Thread& one) { return one.lane == lane; });
    thread->vrings.push_back(&vrings_.at(i));
  }
  const sigset_t blocked = SignalsToBlock();
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  int error = 0;
  for (Thread& thread : threads_) {
    error = pthread_create(&thread.thread, nullptr, &Run, &thread);
    if (error != 0) break;
    nr_started_++;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error == 0) return absl::OkStatus();
  return internal::ErrnoError(error, absl::StrCat("can't start thread ", nr_started_ + 1, " of ",
                                                  threads_.size(), " for virtqueues"));
}

void QueueThreads::End() {
  for (size_t i = 0; i < nr_started_; i++) {
    threads_[i].lane->baton()->End();
    threads_[i].lane->Wake();
  }
  for (size_t i = 0; i < nr_started_; i++) pthread_join(threads_[i].thread, nullptr);
  nr_started_ = 0;
}

void QueueThreads::Resume() {
  std::vector<Lane*> wanted;
  for (const Thread& thread : threads_) {
    const bool has_work = std::any_of(thread.vrings.begin(), thread.vrings.end(),
                                      [](const Vring* vring) { return vring->wants_service(); });
    if (has_work) wanted.push_back(thread.lane);
  }
  lanes_.GiveAll();
  for (Lane* const lane : wanted) lane->Wake();
}

void* QueueThreads::Run(void* thread) {
  auto& self = *static_cast<Thread*>(thread);
  self.owner->Loop(self);
  return nullptr;
}

void QueueThreads::Loop(Thread& thread) {
  // A thread's name has at most 15 characters.
  const std::string name = absl::StrCat("gmem-queue-", thread.vrings.front()->index());
  pthread_setname_np(pthread_self(), name.c_str());
  Lane& lane = *thread.lane;
  lane.Arrive();
  Baton& baton = *lane.baton();
  absl::Duration timeout = absl::InfiniteDuration();
  uint64_t nr_broken = PeerPages::NrBroken();
  while (true) {
    const absl::StatusOr<absl::Span<const Poller::Event>> events = lane.poller().Poll(timeout);
    if (!baton.Enter()) return;
    // epoll_wait() fails only for reasons that this class doesn't give it.
    for (const Poller::Event& event : events.value_or(absl::Span<const Poller::Event>())) {
      if (event.source == Poller::Source::kKick) vrings_.at(event.index).TakeKick();
      if (event.source == Poller::Source::kWatched) lane.RunWatched(event.index);
    }
    lane.RunPosted();
    for (Vring* const vring : thread.vrings) vring->ServeQueue();
    const bool is_polled = std::any_of(thread.vrings.begin(), thread.vrings.end(),
                                       [](const Vring* vring) { return vring->wants_poll(); });
    baton.Leave();
    timeout = is_polled ? Backend::kPollInterval : absl::InfiniteDuration();
    if (PeerPages::NrBroken() == nr_broken) continue;
    nr_broken = PeerPages::NrBroken();
    // The session ends if the memory was its own.
    lanes_.session().Wake();
  }
}

}  // namespace gmem::vhost::backend_internal
