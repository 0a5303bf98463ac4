// SPDX-License-Identifier: MIT OR Apache-2.0
// The loop of a session, and the threads beside it. Not installed.
#ifndef GMEM_VHOST_BACKEND_LANES_H_
#define GMEM_VHOST_BACKEND_LANES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/poller.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// A thread serves its virtqueues and changes nothing else. The session's loop does all the rest
// (requests, the memory table, the IOTLB, the start, failure and stop of a virtqueue), and only
// while it has the batons of all threads. So nothing that both use needs a lock.
class Lanes {
 public:
  // One lane for each number that @device gives its virtqueues; without @has_threads, one for all.
  static absl::StatusOr<std::unique_ptr<Lanes>> Create(const Device& device, bool has_threads);
  // The descriptors that this takes.
  static size_t CountFds(const Device& device, bool has_threads);
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  // For epoll: readable when the session's loop has work to do and may do it.
  int fd() const { return gate_ ? gate_.get() : session_.fd(); }
  Poller& session() { return session_; }

  size_t size() const { return lanes_.size(); }
  Lane& at(size_t i) { return *lanes_[i]; }
  // @queue: less than the device's number.
  Lane& of(uint16_t queue) { return *lanes_[lane_of_[queue]]; }

  // Asks for all batons. False if a thread still has its own: fd() is readable when it gives that.
  bool TakeAll();
  // Waits for all, however long the device takes.
  void WaitTaken();
  void GiveAll();
  // Does the session have all batons? True without threads.
  bool are_taken() const { return are_taken_; }

 private:
  explicit Lanes(Poller session) : session_(std::move(session)) {}
  // Opens the gate: with threads, fd() is readable also when a baton comes.
  absl::Status AddGate();
  void SetMuted(bool is_muted);

  Poller session_;
  // An epoll instance that waits for session_ and released_.
  UniqueFd gate_;
  UniqueFd released_;
  bool is_muted_ = false;
  bool are_taken_ = true;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<size_t> lane_of_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_LANES_H_
