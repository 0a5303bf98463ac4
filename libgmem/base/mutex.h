// SPDX-License-Identifier: Apache-2.0
// std::mutex with Abseil's annotations, which clang checks. Not absl::Mutex: that of a
// distribution's Abseil isn't built for ThreadSanitizer, which would then take all that
// it guards for races. Not installed.
#ifndef GMEM_BASE_MUTEX_H_
#define GMEM_BASE_MUTEX_H_

#include <mutex>

#include "absl/base/thread_annotations.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  // Tells the compiler, where it can't see it: in a lambda, say.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}

 private:
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }

 private:
  Mutex* const mutex_;
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_MUTEX_H_
