// SPDX-License-Identifier: MIT OR Apache-2.0
// The transfer of a device's state by a pipe. Not installed.
#ifndef GMEM_VHOST_BACKEND_STATE_TRANSFER_H_
#define GMEM_VHOST_BACKEND_STATE_TRANSFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/poller.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// One transfer at a time, in either direction (SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE). A thread
// of the device moves the bytes: whatever the flags of a pipe say, the front-end, which has the
// same open file, can make a read or a write wait, for example by a page fault of its own inside of
// the pipe's lock. The session's loop never touches the pipe.
class StateTransfer {
 public:
  // Both must outlive this object. @timeout: how long a transfer may stand still when the front-end
  // waits for its end.
  StateTransfer(Device& device, Poller& poller, absl::Duration timeout)
      : device_(device), poller_(poller), timeout_(timeout) {}
  StateTransfer(const StateTransfer&) = delete;
  StateTransfer& operator=(const StateTransfer&) = delete;
  ~StateTransfer() { Stop(); }

  // Begins a transfer through @fd, in the place of the previous transfer. InvalidArgument (EINVAL)
  // for an unknown direction or phase, or if @fd is no pipe and no socket; Internal (EIO) if the
  // device can't save its state; Unimplemented (EOPNOTSUPP) if it gives no thread;
  // FailedPrecondition (EBUSY) if too many earlier ones can't end; EBADF if @fd can't be used. On
  // an error, nothing has changed.
  absl::Status Start(const DeviceStateTransfer& request, UniqueFd fd);

  // Has the transfer not ended yet?
  bool is_under_way() const { return job_ != nullptr; }
  // Call this when the poller has something to report: loads the state if it has come.
  // @has_started: does a virtqueue work? Then the device can't take the state, and the transfer
  // fails (EBUSY).
  void Advance(bool has_started);

  // The front-end waits from now on. DeadlineExceeded (ETIMEDOUT) from CheckTime() if the transfer
  // stands still for too long.
  void BeginWait();
  absl::Status CheckTime();
  // Until CheckTime() may fail.
  absl::Duration time_left() const;

  // The result of the last transfer, which is forgotten: an error if there was none.
  absl::Status TakeResult();

 private:
  class Job;

  // Leaves the thread to itself, which ends soon, if the front-end lets it; result_ stays.
  void Stop();

  Device& device_;
  Poller& poller_;
  const absl::Duration timeout_;
  // The thread has it, too.
  std::shared_ptr<Job> job_;
  // This one and those that were replaced, while their threads run: at most this number, since a
  // front-end can keep threads from their end.
  static constexpr size_t kMaxThreads = 4;
  std::vector<std::weak_ptr<Job>> jobs_;
  // The time of Uptime() at which a transfer must have gone on, and how far it was before.
  absl::Duration deadline_ = absl::InfiniteDuration();
  uint64_t nr_moved_ = 0;
  absl::Status result_ = NoTransfer();

  static absl::Status NoTransfer();
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_STATE_TRANSFER_H_
