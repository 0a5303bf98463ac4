// SPDX-License-Identifier: MIT OR Apache-2.0
// The library's own back-end on a thread of its own, for tests of the front-end. Not installed.
#ifndef GMEM_VHOST_TESTING_BACKEND_THREAD_H_
#define GMEM_VHOST_TESTING_BACKEND_THREAD_H_

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "vhost/testing/socket.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

using internal::Mutex;
using internal::MutexLock;

// Only the thread uses @device until this object ends; the back-end ends then, too.
class BackendThread {
 public:
  BackendThread(UniqueFd socket, Device& device)
      : backend_(*Backend::Create(*Connection::Adopt(std::move(socket)), device, kPatience)),
        wake_(eventfd(0, EFD_CLOEXEC)),
        thread_([this] { Run(); }) {}
  BackendThread(const BackendThread&) = delete;
  BackendThread& operator=(const BackendThread&) = delete;
  ~BackendThread() {
    Post(nullptr);
    thread_.join();
  }

  // Runs @task on the thread; null ends the thread.
  void Post(std::function<void(Backend&)> task) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(&mutex_);
      tasks_.push_back(std::move(task));
    }
    constexpr uint64_t kOne = 1;
    (void)!write(wake_.get(), &kOne, sizeof(kOne));
  }

 private:
  void Run() {
    bool goes_on = true;
    while (goes_on) {
      std::array<pollfd, 2> polled = {pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                      pollfd{.fd = backend_->fd(), .events = POLLIN, .revents = 0}};
      const absl::Duration left = std::clamp(backend_->next_deadline() - absl::Now(),
                                             absl::ZeroDuration(), absl::Seconds(1));
      poll(polled.data(), polled.size(), static_cast<int>(absl::ToInt64Milliseconds(left)));
      if (polled[0].revents != 0) goes_on = RunTasks();
      // After the end of the session, wait for the end of the thread.
      if (!backend_->Process().ok()) goes_on = goes_on && WaitForTask();
    }
    backend_.reset();
  }
  bool WaitForTask() {
    pollfd polled = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
    poll(&polled, 1, -1);
    return RunTasks();
  }
  bool RunTasks() ABSL_LOCKS_EXCLUDED(mutex_) {
    uint64_t count = 0;
    (void)!read(wake_.get(), &count, sizeof(count));
    std::vector<std::function<void(Backend&)>> tasks;
    {
      MutexLock lock(&mutex_);
      tasks.swap(tasks_);
    }
    for (const auto& task : tasks) {
      if (task == nullptr) return false;
      task(*backend_);
    }
    return true;
  }

  std::unique_ptr<Backend> backend_;
  UniqueFd wake_;
  Mutex mutex_;
  std::vector<std::function<void(Backend&)>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_BACKEND_THREAD_H_
