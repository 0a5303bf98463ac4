// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/lane.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/status.h"
#include "vhost/backend/poller.h"

namespace gmem::vhost::backend_internal {

constinit thread_local const Lane* Lane::here_ = nullptr;

Lane::~Lane() {
  // The device still has the descriptors.
  for (const auto& watched : watched_) poller_.Remove(watched->fd);
}

absl::Status Lane::Watch(int fd, Work ready) {
  const uint32_t id = next_id_++;
  GMEM_RETURN_IF_ERROR(poller_.Add(fd, EPOLLIN, Poller::Source::kWatched, id));
  watched_.push_back(
      std::make_shared<Watched>(Watched{.fd = fd, .id = id, .ready = std::move(ready)}));
  return absl::OkStatus();
}

void Lane::Unwatch(int fd) {
  const auto watched = std::find_if(watched_.begin(), watched_.end(),
                                    [fd](const auto& one) { return one->fd == fd; });
  if (watched == watched_.end()) return;
  poller_.Remove(fd);
  watched_.erase(watched);
}

void Lane::RunWatched(uint32_t id) {
  const auto watched = std::find_if(watched_.begin(), watched_.end(),
                                    [id](const auto& one) { return one->id == id; });
  // It may have ended since the event.
  if (watched == watched_.end()) return;
  const std::shared_ptr<Watched> running = *watched;
  running->ready();
}

void Lane::Post(Work work) {
  {
    const internal::MutexLock lock(&mutex_);
    posted_.push_back(std::move(work));
  }
  Wake();
}

void Lane::RunPosted() {
  std::vector<Work> posted;
  {
    const internal::MutexLock lock(&mutex_);
    posted.swap(posted_);
  }
  for (Work& work : posted) work();
}

}  // namespace gmem::vhost::backend_internal
