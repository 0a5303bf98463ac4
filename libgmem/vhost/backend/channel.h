// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests of this back-end to the front-end. Not installed.
#ifndef GMEM_VHOST_BACKEND_CHANNEL_H_
#define GMEM_VHOST_BACKEND_CHANNEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/requester.h"
#include "vhost/backend/poller.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The back-end channel (SET_BACKEND_REQ_FD). It may be absent, and it may end before the session
// does: a front-end that closes it, or doesn't answer in time, can do without it.
class BackendChannel {
 public:
  // @poller must outlive this object. @timeout: how long the front-end may take to answer.
  BackendChannel(Poller& poller, absl::Duration timeout) : poller_(poller), timeout_(timeout) {}
  BackendChannel(const BackendChannel&) = delete;
  BackendChannel& operator=(const BackendChannel&) = delete;
  ~BackendChannel() { Unwatch(); }

  // Replaces the channel. The requests under way in the old one end with Unavailable (ECONNRESET).
  // On an error, nothing has changed.
  absl::Status Open(UniqueFd socket, bool reply_ack);
  bool is_open() const { return requester_ != nullptr && requester_->status().ok(); }
  void set_reply_ack(bool reply_ack);

  // Starts a request, see Requester::Start(). Only while is_open().
  template <auto kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
             Requester::Done done) {
    requester_->Start<kRequest>(payload, fds, std::move(done));
    UpdateEvents();
  }

  // Sends and receives as much as it can without blocking.
  void Process();
  // The time of the next Process(), if no event comes before.
  absl::Time next_deadline() const;

  // Serves only this channel until a request of it has set @result, and returns that. Blocks up to
  // the timeout.
  absl::Status Wait(const std::optional<absl::Status>& result);

  // Ends the channel, and all requests under way with @status.
  void Close(const absl::Status& status);

 private:
  void UpdateEvents();
  void Unwatch();

  Poller& poller_;
  const absl::Duration timeout_;
  std::unique_ptr<Requester> requester_;
  // A copy of the socket for the poller, which must remove it before it is closed: the requester
  // closes its own descriptor at the channel's end.
  UniqueFd watch_;
  uint32_t events_ = 0;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_CHANNEL_H_
