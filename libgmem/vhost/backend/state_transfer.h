// SPDX-License-Identifier: Apache-2.0
// The transfer of a device's state by a pipe. Not installed.
#ifndef GMEM_VHOST_BACKEND_STATE_TRANSFER_H_
#define GMEM_VHOST_BACKEND_STATE_TRANSFER_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/poller.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// One transfer at a time, in either direction (SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE). The poller
// reports when Advance() can go on.
class StateTransfer {
 public:
  // Both must outlive this object.
  StateTransfer(Device& device, Poller& poller) : device_(device), poller_(poller) {}
  StateTransfer(const StateTransfer&) = delete;
  StateTransfer& operator=(const StateTransfer&) = delete;
  ~StateTransfer() { Stop(); }

  // Begins a transfer through @fd, in the place of the previous transfer. InvalidArgument (EINVAL)
  // for an unknown direction or phase; Internal (EIO) if the device can't save its state; EBADF if
  // @fd can't be used. On an error, nothing has changed.
  absl::Status Start(const DeviceStateTransfer& request, UniqueFd fd);

  // Does Advance() wait for the pipe?
  bool is_under_way() const { return static_cast<bool>(fd_); }
  // Moves one piece. Doesn't block.
  void Advance();

  // The result of the last transfer, which is forgotten: an error if there was none.
  absl::Status TakeResult();

 private:
  // True when the transfer has ended; then result_ is set.
  bool Send();
  bool Receive();
  // Releases the pipe and the state; result_ stays.
  void Stop();

  Device& device_;
  Poller& poller_;
  UniqueFd fd_;
  bool is_save_ = false;
  // The state to send, of which nr_sent_ bytes are sent; or the bytes received so far.
  std::string bytes_;
  size_t nr_sent_ = 0;
  absl::Status result_ = NoTransfer();

  static absl::Status NoTransfer();
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_STATE_TRANSFER_H_
