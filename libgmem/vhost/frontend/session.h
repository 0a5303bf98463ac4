// SPDX-License-Identifier: MIT OR Apache-2.0
// A front-end's connection to a back-end. Not installed.
#ifndef GMEM_VHOST_FRONTEND_SESSION_H_
#define GMEM_VHOST_FRONTEND_SESSION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/frontend/backend_channel.h"
#include "vhost/frontend/event_set.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Sends requests on the main channel and waits for their answers, each call with one deadline;
// serves the back-end channel while it waits. Runs callbacks, keeps those from waiting, and lets
// their Close() take effect when the last of them has returned.
class Session {
 public:
  using Confirm = Frontend::Confirm;

  class Client {
   public:
    // The connection has ended, and the back-end channel is closed. Called once for each
    // connection.
    virtual void OnEnd(const absl::Status& why) = 0;

   protected:
    ~Client() = default;
  };

  // While a Busy lives, callbacks may run, and calls that wait are refused. The end of the
  // outermost one ends the connection if a callback has closed it, or if it has broken.
  class Busy {
   public:
    explicit Busy(Session& session)
        : session_(session), was_busy_(std::exchange(session.is_busy_, true)) {}
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() {
      session_.is_busy_ = was_busy_;
      if (!was_busy_) session_.Settle();
    }

   private:
    Session& session_;
    const bool was_busy_;
  };

  // While the outermost Deadline lives, all requests together have Frontend::Options::timeout for
  // their answers.
  class Deadline {
   public:
    explicit Deadline(Session& session);
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { session_.deadline_ = before_; }

   private:
    Session& session_;
    const std::optional<absl::Duration> before_;
  };

  Session(BackendChannel& backend, Client& client, absl::Duration timeout)
      : backend_(backend), client_(client), timeout_(timeout) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Once, before anything else.
  absl::Status Open() { return events_.Open(); }
  // Begins with a new connection; the previous connection has ended.
  absl::Status Attach(Connection connection);

  int fd() const { return events_.fd(); }
  absl::Time next_deadline() const { return main_->next_deadline(); }
  // OK, or why the connection has ended.
  const absl::Status& status() const { return main_->status(); }
  // Does a callback run, or Process(), which may call one?
  bool is_busy() const { return is_busy_; }
  // Would Start() refuse?
  bool is_full() const { return main_->is_full(); }
  void set_reply_ack(bool reply_ack) { main_->set_reply_ack(reply_ack); }

  // See Frontend.
  absl::Status Process();
  void Close();
  // Ends the connection for the reason @why.
  void End(absl::Status why);
  // Ends the connection for good. Calls back for the requests under way, but not the client's
  // OnEnd().
  void Shutdown();

  // Sends a request without waiting. @format outlives the request.
  void Start(FrontendRequest request, const Format& format, absl::Span<const uint8_t> payload,
             absl::Span<const int> fds, Requester::Done done, bool want_ack);
  template <FrontendRequest kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, Requester::Done done,
             bool want_ack = true) {
    Start(kRequest, *FindFormat(kRequest), AsBytes(payload), {}, std::move(done), want_ack);
  }

  // Where the parts of a reply go. Bytes that the back-end leaves out stay as they are.
  struct Reply {
    absl::Span<uint8_t> payload = {};
    // Null: descriptors are closed.
    FdList* fds = nullptr;
  };
  // Sends a request and waits for what @confirm says.
  absl::Status Call(FrontendRequest request, const Format& format,
                    absl::Span<const uint8_t> payload, absl::Span<const int> fds, Confirm confirm,
                    const Reply& reply);
  template <FrontendRequest kRequest>
  absl::StatusOr<typename RequestTraits<kRequest>::Reply> Call(
      const typename RequestTraits<kRequest>::Payload& payload = {}, absl::Span<const int> fds = {},
      FdList* reply_fds = nullptr) {
    typename RequestTraits<kRequest>::Reply reply = {};
    const absl::Status status =
        Call(kRequest, *FindFormat(kRequest), AsBytes(payload), fds, Confirm::kIfAcked,
             {.payload = AsWritableBytes(reply), .fds = reply_fds});
    if (!status.ok()) return status;
    return reply;
  }
  // Sends a request without a reply of its own, and waits.
  template <FrontendRequest kRequest>
  absl::Status Do(const typename RequestTraits<kRequest>::Payload& payload = {},
                  absl::Span<const int> fds = {}, Confirm confirm = Confirm::kIfAcked) {
    static_assert(std::is_empty_v<typename RequestTraits<kRequest>::Reply>);
    return Call(kRequest, *FindFormat(kRequest), AsBytes(payload), fds, confirm, {});
  }

 private:
  absl::Status CallOnce(FrontendRequest request, const Format& format,
                        absl::Span<const uint8_t> payload, absl::Span<const int> fds, bool want_ack,
                        const Reply& reply);
  void Wait(const bool& is_done);
  void ServeBackend();
  void Settle();
  void Watch();

  BackendChannel& backend_;
  Client& client_;
  const absl::Duration timeout_;
  EventSet events_;
  // Null until the first Attach().
  std::unique_ptr<Requester> main_;
  EventSet::Entry main_entry_;
  bool is_busy_ = false;
  // The deadline of the method that waits, by the clock of Uptime().
  std::optional<absl::Duration> deadline_;
  bool wants_close_ = false;
  bool has_ended_ = false;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_SESSION_H_
