// SPDX-License-Identifier: MIT OR Apache-2.0
// The threads that serve virtqueues. Not installed.
#ifndef GMEM_VHOST_BACKEND_QUEUE_THREADS_H_
#define GMEM_VHOST_BACKEND_QUEUE_THREADS_H_

#include <pthread.h>

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/vring_set.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// A thread for each lane, if the lanes have threads.
class QueueThreads {
 public:
  // Both must outlive this object.
  QueueThreads(Lanes& lanes, VringSet& vrings) : lanes_(lanes), vrings_(vrings) {}
  QueueThreads(const QueueThreads&) = delete;
  QueueThreads& operator=(const QueueThreads&) = delete;
  // Ends the threads. A thread that is in a call of the device ends after that.
  ~QueueThreads() { End(); }

  // While the session has the batons. ResourceExhausted (EAGAIN) if the system has no more threads.
  absl::Status Start();
  void End();
  // Gives the batons back, and wakes the threads that have something to do.
  void Resume();

 private:
  struct Thread {
    QueueThreads* owner = nullptr;
    Lane* lane = nullptr;
    std::vector<Vring*> vrings;
    pthread_t thread = {};
  };

  static void* Run(void* thread);
  void Loop(Thread& thread);

  Lanes& lanes_;
  VringSet& vrings_;
  // Doesn't grow once a thread runs.
  std::vector<Thread> threads_;
  size_t nr_started_ = 0;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_QUEUE_THREADS_H_
