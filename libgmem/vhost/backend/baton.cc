// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/baton.h"

#include <unistd.h>

#include <cstdint>
#include <mutex>

namespace gmem::vhost::backend_internal {

bool Baton::Enter() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return !is_wanted_ || has_ended_; });
  is_inside_ = !has_ended_;
  return is_inside_;
}

void Baton::Leave() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_inside_ = false;
    if (!is_wanted_) return;
    constexpr uint64_t kOne = 1;
    // The counter can't be full: the session empties it before it takes the baton.
    [[maybe_unused]] const ssize_t written = write(released_, &kOne, sizeof(kOne));
  }
  changed_.notify_all();
}

bool Baton::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  is_wanted_ = true;
  return !is_inside_;
}

void Baton::WaitTaken() {
  std::unique_lock<std::mutex> lock(mutex_);
  is_wanted_ = true;
  changed_.wait(lock, [this] { return !is_inside_; });
}

void Baton::Give() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_wanted_ = false;
  }
  changed_.notify_all();
}

void Baton::End() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    has_ended_ = true;
  }
  changed_.notify_all();
}

}  // namespace gmem::vhost::backend_internal
