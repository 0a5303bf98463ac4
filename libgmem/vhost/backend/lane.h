// SPDX-License-Identifier: MIT OR Apache-2.0
// Where virtqueues are served. Not installed.
#ifndef GMEM_VHOST_BACKEND_LANE_H_
#define GMEM_VHOST_BACKEND_LANE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "vhost/backend/baton.h"
#include "vhost/backend/poller.h"
#include "vhost/wire/event_signal.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The common parts of the virtqueues of one thread: the descriptors that wake the thread, the
// device's own among them, the way to signal eventfds, and the work that other threads leave.
// Without threads, a session has one lane, and the session's loop is its thread.
//
// Only Post() and Wake() may be called by any thread. The others need the baton, if there is one.
class Lane {
 public:
  using Work = absl::AnyInvocable<void()>;

  // The lane of the session's own loop.
  explicit Lane(Poller& session) : poller_(session) {}
  // The lane of a thread. See Baton for @released.
  Lane(std::unique_ptr<Poller> poller, int released)
      : own_poller_(std::move(poller)),
        poller_(*own_poller_),
        baton_(std::make_unique<Baton>(released)) {}
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane();

  Poller& poller() { return poller_; }
  wire_internal::EventSignaler& signaler() { return signaler_; }
  // Null if the session's loop is the thread.
  Baton* baton() const { return baton_.get(); }
  bool has_thread() const { return baton_ != nullptr; }
  // Does the session ask for the baton, or have it? Null without one.
  const std::atomic<bool>* is_wanted() const {
    return has_thread() ? &baton_->is_wanted() : nullptr;
  }

  // Is the caller the lane's thread? True on any thread if the session's loop is the thread.
  bool is_here() const { return !has_thread() || here_ == this; }
  // Is the caller the thread of any lane?
  static bool IsAnyHere() { return here_ != nullptr; }
  // The caller is the lane's thread, from here on.
  void Arrive() { here_ = this; }

  // Runs @ready on the lane's thread while @fd is readable.
  absl::Status Watch(int fd, Work ready);
  // Ignores a descriptor that isn't watched.
  void Unwatch(int fd);
  // @id: the index of a Source::kWatched event.
  void RunWatched(uint32_t id);

  // Leaves work for the lane's thread.
  void Post(Work work) ABSL_LOCKS_EXCLUDED(mutex_);
  void RunPosted() ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake() { poller_.Wake(); }

 private:
  struct Watched {
    int fd = -1;
    // Differs from that of the one that had the descriptor's number before.
    uint32_t id = 0;
    Work ready;
  };

  // constinit: no other file calls an initializer, which clang would look for in the library.
  static constinit thread_local const Lane* here_;

  const std::unique_ptr<Poller> own_poller_;
  Poller& poller_;
  const std::unique_ptr<Baton> baton_;
  wire_internal::EventSignaler signaler_;
  uint32_t next_id_ = 0;
  // Shared with the call that runs: it may end its own watch.
  std::vector<std::shared_ptr<Watched>> watched_;

  internal::Mutex mutex_;
  std::vector<Work> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_LANE_H_
