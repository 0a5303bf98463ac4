// SPDX-License-Identifier: MIT OR Apache-2.0
// std::mutex with Abseil's annotations, which clang checks. The library doesn't use absl::Mutex: a
// distribution builds Abseil without ThreadSanitizer, so ThreadSanitizer doesn't see the locking
// and reports races on the guarded data. Not installed.
#ifndef GMEM_BASE_MUTEX_H_
#define GMEM_BASE_MUTEX_H_

#include <mutex>

#include "absl/base/thread_annotations.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  // Tells clang's analysis that the caller holds the mutex, for example in a lambda.
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
