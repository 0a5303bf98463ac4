// SPDX-License-Identifier: MIT OR Apache-2.0
// The front-end's end of the back-end channel. Not installed.
#ifndef GMEM_VHOST_FRONTEND_BACKEND_CHANNEL_H_
#define GMEM_VHOST_FRONTEND_BACKEND_CHANNEL_H_

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/responder.h"
#include "vhost/frontend/event_set.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Takes the back-end's requests one by one and answers each. Knows nothing of their meaning.
class BackendChannel {
 public:
  // The result of a request.
  struct Outcome {
    // OK, or why the request is refused.
    absl::Status status;
    // The descriptor that the reply carries, or -1. The client keeps it.
    int fd = -1;
  };

  class Client {
   public:
    // Carries out a request whose format is correct.
    virtual Outcome Handle(Message& message) = 0;
    // The channel is closed: release all that the back-end can only release through it.
    virtual void OnChannelClosed() = 0;

   protected:
    ~Client() = default;
  };

  explicit BackendChannel(Client& client) : client_(client) {}
  BackendChannel(const BackendChannel&) = delete;
  BackendChannel& operator=(const BackendChannel&) = delete;

  // Opens the channel; returns the back-end's end of it. The channel is closed before.
  absl::StatusOr<UniqueFd> Open(bool reply_ack);

  // Closes the channel, for the reason @why, and tells the client even if it wasn't open.
  void Close(absl::Status why);

  // Forgets why the channel was closed: another connection begins.
  void ForgetEnd() { status_ = absl::OkStatus(); }
  // OK, or why the channel was closed.
  const absl::Status& status() const { return status_; }
  // The requests that the front-end has refused.
  uint64_t nr_refused() const { return nr_refused_; }

  // Answers the requests that have come, at most Frontend::kMaxRequestsAtOnce; stops when
  // @may_go_on, which it asks before each, returns false. Closes the channel if it breaks.
  void Serve(absl::FunctionRef<bool()> may_go_on);

  // Watches the socket, if the channel is open.
  void Watch(const EventSet& events);

 private:
  absl::Status Answer(const Responder::Request& request);
  absl::Status Reply(const Outcome& outcome);

  Client& client_;
  // Null if the channel isn't open.
  std::unique_ptr<Responder> responder_;
  EventSet::Entry entry_;
  absl::Status status_;
  uint64_t nr_refused_ = 0;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_BACKEND_CHANNEL_H_
