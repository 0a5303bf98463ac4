// SPDX-License-Identifier: MIT OR Apache-2.0
// The right to use the state of a thread of virtqueues. Not installed.
#ifndef GMEM_VHOST_BACKEND_BATON_H_
#define GMEM_VHOST_BACKEND_BATON_H_

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The state of a thread of virtqueues, and the state that all of these threads read (the memory
// table, the IOTLB, the features), change hands as a whole with the baton of the thread. The thread
// holds its baton from Enter() to Leave(), never while it sleeps. The session takes the batons of
// all threads for each round of its loop: it asks for them, and learns from a descriptor when the
// last thread has let go, so it never waits for a device.
//
// Thread-safe.
class ABSL_LOCKABLE Baton {
 public:
  // @released, an eventfd, must outlive this object: readable when the thread gives the baton to
  // the session.
  explicit Baton(int released) : released_(released) {}
  Baton(const Baton&) = delete;
  Baton& operator=(const Baton&) = delete;

  // For the thread. Waits while the session has the baton. False after End(): then nothing is held.
  bool Enter() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true);
  void Leave() ABSL_UNLOCK_FUNCTION();

  // For the session. Asks for the baton; true if the session has it now. Call this again when
  // @released is readable.
  bool Take();
  // Waits for that, however long the device takes.
  void WaitTaken();
  void Give();
  // The thread ends at its next Enter().
  void End();

  // Does the session ask for the baton, or have it? A hint for the thread to come to an end.
  const std::atomic<bool>& is_wanted() const { return is_wanted_; }

 private:
  const int released_;
  std::atomic<bool> is_wanted_ = false;
  // Not internal::Mutex: it has no conditions.
  std::mutex mutex_;
  std::condition_variable changed_;
  // Below: guarded by mutex_.
  bool is_inside_ = false;
  bool has_ended_ = false;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_BATON_H_
