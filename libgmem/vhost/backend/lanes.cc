// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/backend/lanes.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/poller.h"

namespace gmem::vhost::backend_internal {

using internal::ErrnoError;

absl::StatusOr<std::unique_ptr<Lanes>> Lanes::Create(const Device& device, bool has_threads) {
  GMEM_ASSIGN_OR_RETURN(Poller session, Poller::Create());
  std::unique_ptr<Lanes> lanes(new Lanes(std::move(session)));
  const uint16_t nr_queues = device.nr_queues();
  if (!has_threads) {
    lanes->lanes_.push_back(std::make_unique<Lane>(lanes->session_));
    lanes->lane_of_.resize(nr_queues, 0);
    return lanes;
  }
  GMEM_RETURN_IF_ERROR(lanes->AddGate());
  std::map<uint16_t, size_t> by_number;
  for (uint16_t i = 0; i < nr_queues; i++) {
    const auto [lane, is_new] = by_number.emplace(device.QueueThread(i), lanes->size());
    lanes->lane_of_.push_back(lane->second);
    if (!is_new) continue;
    GMEM_ASSIGN_OR_RETURN(Poller poller, Poller::Create());
    lanes->lanes_.push_back(std::make_unique<Lane>(std::make_unique<Poller>(std::move(poller)),
                                                   lanes->released_.get()));
  }
  return lanes;
}

size_t Lanes::CountFds(const Device& device, bool has_threads) {
  constexpr size_t kPollerFds = 2;
  constexpr size_t kGateFds = 2;
  if (!has_threads) return kPollerFds;
  std::set<uint16_t> numbers;
  for (uint16_t i = 0; i < device.nr_queues(); i++) numbers.insert(device.QueueThread(i));
  return kPollerFds * (1 + numbers.size()) + kGateFds;
}

absl::Status Lanes::AddGate() {
  gate_.reset(epoll_create1(EPOLL_CLOEXEC));
  released_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event = {};
  event.events = EPOLLIN;
  if (!gate_ || !released_ || epoll_ctl(gate_.get(), EPOLL_CTL_ADD, session_.fd(), &event) != 0 ||
      epoll_ctl(gate_.get(), EPOLL_CTL_ADD, released_.get(), &event) != 0) {
    return ErrnoError(errno, "can't make a loop for a session with threads");
  }
  return absl::OkStatus();
}

// The requests that wait would keep the owner's loop busy.
void Lanes::SetMuted(bool is_muted) {
  if (!gate_ || is_muted == is_muted_) return;
  epoll_event event = {};
  event.events = is_muted ? 0U : uint32_t{EPOLLIN};
  // Can't fail: the descriptor is there, and nothing is allocated.
  epoll_ctl(gate_.get(), EPOLL_CTL_MOD, session_.fd(), &event);
  is_muted_ = is_muted;
}

bool Lanes::TakeAll() {
  if (!gate_) return true;
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(released_.get(), &count, sizeof(count));
  are_taken_ = true;
  for (const auto& lane : lanes_) {
    if (!lane->baton()->Take()) are_taken_ = false;
  }
  SetMuted(!are_taken_);
  return are_taken_;
}

void Lanes::WaitTaken() {
  if (!gate_) return;
  for (const auto& lane : lanes_) lane->baton()->WaitTaken();
  are_taken_ = true;
}

void Lanes::GiveAll() {
  if (!gate_) return;
  are_taken_ = false;
  for (const auto& lane : lanes_) lane->baton()->Give();
}

}  // namespace gmem::vhost::backend_internal
