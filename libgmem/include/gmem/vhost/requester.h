// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_REQUESTER_H_
#define GMEM_VHOST_REQUESTER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"

namespace gmem::vhost {

/// How long a peer may take to answer, unless told otherwise.
inline constexpr absl::Duration kDefaultTimeout = absl::Seconds(10);

/// The end of a channel that asks: the front-end's of the main channel, the back-end's
/// of the back-end channel. Several requests may be under way at a time; replies come in
/// their order. Nothing here blocks: the owner's loop calls Process() when fd() is
/// readable (or writable, if wants_write()), and when time_left() is over.
///
/// Any error of the channel is its end: all that is under way is told that error. A request
/// that can't be sent, because of a bad descriptor (EBADF) for example, ends only itself.
///
/// Thread-compatible. Callbacks run inside of Start(), Process() and Close(); they may
/// start further requests, and must not destroy the requester.
class Requester {
 public:
  /// What comes back: the reply, valid during the call; null if none was due.
  using Done = absl::AnyInvocable<void(absl::StatusOr<Message*>)>;

  /// Requests under way at a time; more wait for their turn.
  static constexpr size_t kMaxOutstanding = 32;
  /// Requests that may wait.
  static constexpr size_t kMaxQueued = 256;

  explicit Requester(Connection connection, absl::Duration timeout = kDefaultTimeout)
      : connection_(std::move(connection)), timeout_(timeout) {}
  Requester(const Requester&) = delete;
  Requester& operator=(const Requester&) = delete;

  /// Was ProtocolFeature::kReplyAck negotiated? False at first.
  void set_reply_ack(bool reply_ack) { reply_ack_ = reply_ack; }
  bool reply_ack() const { return reply_ack_; }

  int fd() const { return connection_.fd(); }
  /// Does the socket keep something from being sent? What waits for replies doesn't count.
  bool wants_write() const {
    return connection_.has_unsent() || (!queue_.empty() && nr_outstanding_ < kMaxOutstanding);
  }
  /// How long it is until Process() is due, if nothing comes before; InfiniteDuration() if
  /// nothing is under way. By a clock that nobody sets (CLOCK_MONOTONIC).
  absl::Duration time_left() const;
  /// The same as a time: ask again when the machine's clock was set.
  absl::Time next_deadline() const { return absl::Now() + time_left(); }
  /// Is all answered that was started?
  bool is_idle() const { return nr_outstanding_ == 0 && queue_.empty(); }
  /// Would Start() refuse? ResourceExhausted (ENOMEM) is what it would say.
  bool is_full() const { return queue_.size() == kMaxQueued; }
  /// OK, or why the channel has ended.
  const absl::Status& status() const { return status_; }

  /// Starts a request. @p done is called once: with the reply, when it is there, or with
  /// the error. What has no reply of its own is done when the peer acknowledged it, if
  /// @p want_ack and acknowledgements are negotiated, else when it is sent. A peer that
  /// refuses is Internal (EIO); one that is too slow, DeadlineExceeded (ETIMEDOUT).
  ///
  /// @p fds stay the caller's. A small @p done (two pointers) allocates nothing.
  template <auto kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
             Done done, bool want_ack = true) {
    StartFormat(static_cast<uint32_t>(kRequest), *FindFormat(kRequest), AsBytes(payload), fds,
                std::move(done), want_ack);
  }

  /// The same for what types don't say: a request whose reply depends on what went before.
  /// @p format must outlive the request.
  void StartFormat(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                   absl::Span<const int> fds, Done done, bool want_ack);

  /// Does what can be done now: sends what waits, takes replies, and ends the channel if
  /// a deadline is over. The channel's error, if it has one.
  absl::Status Process();

  /// Ends the channel; what is under way is told @p status.
  void Close(absl::Status status);

 private:
  struct Outstanding {
    uint32_t request = 0;
    const Format* format = nullptr;
    bool is_ack = false;
    // As Uptime() has it.
    absl::Duration deadline;
    Done done;
  };
  // Waits because the socket or outstanding_ is full.
  struct Queued {
    uint32_t request = 0;
    const Format* format = nullptr;
    std::vector<uint8_t> payload;
    FdList fds;
    bool want_ack = false;
    absl::Duration deadline;
    Done done;
  };

  enum class Sent {
    kNot,           // It has to wait.
    kAwaitsAnswer,  // Then @done is taken; otherwise it stays.
    kDone,          // Nothing will come back.
  };
  absl::StatusOr<Sent> TrySend(uint32_t request, const Format& format,
                               absl::Span<const uint8_t> payload, absl::Span<const int> fds,
                               bool want_ack, absl::Duration deadline, Done& done);
  absl::Status Enqueue(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                       absl::Span<const int> fds, bool want_ack, absl::Duration deadline,
                       Done& done);
  absl::Status SendQueued();
  absl::Status Advance();
  absl::Status HandleReply();

  Connection connection_;
  absl::Duration timeout_;
  bool reply_ack_ = false;
  absl::Status status_;
  // A ring: the oldest at first_.
  std::array<Outstanding, kMaxOutstanding> outstanding_;
  size_t first_ = 0;
  size_t nr_outstanding_ = 0;
  std::deque<Queued> queue_;
  Message message_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_REQUESTER_H_
