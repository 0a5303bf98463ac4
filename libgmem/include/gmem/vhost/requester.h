// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// The default time that a peer may take to answer.
inline constexpr absl::Duration kDefaultTimeout = absl::Seconds(10);

/// The end of a channel that sends requests: the front-end on the main channel, the back-end on the
/// back-end channel. Several requests may be under way at a time; their replies come in the same
/// order. No call blocks: the owner's loop calls Process() when fd() is readable (or writable, if
/// wants_write()), and when time_left() is over.
///
/// Any error of the channel ends it, and every request under way fails with that error. A request
/// that can't be sent, for example because of a bad descriptor (EBADF), fails alone.
///
/// Thread-compatible. Callbacks run inside Start(), Process() and Close(). They may start further
/// requests, and must not destroy the requester.
class Requester {
 public:
  /// The callback of a request. Its argument is the reply, valid during the call; null if the
  /// request has none.
  using Done = absl::AnyInvocable<void(absl::StatusOr<Message*>)>;

  /// The most requests under way at a time; further ones wait in a queue.
  static constexpr size_t kMaxOutstanding = 32;
  /// The most requests that may wait in the queue.
  static constexpr size_t kMaxQueued = 256;

  explicit Requester(Connection connection, absl::Duration timeout = kDefaultTimeout)
      : connection_(std::move(connection)), timeout_(timeout) {}
  Requester(const Requester&) = delete;
  Requester& operator=(const Requester&) = delete;

  /// Was ProtocolFeature::kReplyAck negotiated? False at first.
  void set_reply_ack(bool reply_ack) { reply_ack_ = reply_ack; }
  bool reply_ack() const { return reply_ack_; }

  int fd() const { return connection_.fd(); }
  /// Does a message wait because the socket is full? Requests that wait for a reply don't count.
  bool wants_write() const {
    return connection_.has_unsent() || (!queue_.empty() && nr_outstanding_ < kMaxOutstanding);
  }
  /// The time until Process() must run even if nothing comes before; InfiniteDuration() if no
  /// request is under way. The clock is CLOCK_MONOTONIC, which nobody can set.
  absl::Duration time_left() const;
  /// The end of time_left(), by the system's clock. Ask again after that clock was set.
  absl::Time next_deadline() const { return absl::Now() + time_left(); }
  /// Have all started requests ended?
  bool is_idle() const { return nr_outstanding_ == 0 && queue_.empty(); }
  /// Would Start() fail with ResourceExhausted (ENOMEM)?
  bool is_full() const { return queue_.size() == kMaxQueued; }
  /// OK, or the error that ended the channel.
  const absl::Status& status() const { return status_; }

  /// Starts a request. The requester calls @p done once, with the reply or with an error. A request
  /// without a reply of its own ends when the peer acknowledges it, if @p want_ack is set and
  /// acknowledgements are negotiated; else it ends when it is sent. Internal (EIO) if the peer
  /// refuses; DeadlineExceeded (ETIMEDOUT) if the peer is too slow.
  ///
  /// The caller keeps @p fds. A small @p done (two pointers) allocates nothing.
  template <auto kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
             Done done, bool want_ack = true) {
    StartFormat(static_cast<uint32_t>(kRequest), *FindFormat(kRequest), AsBytes(payload), fds,
                std::move(done), want_ack);
  }

  /// Starts a request whose reply depends on earlier requests, which types can't express. @p format
  /// must outlive the request.
  void StartFormat(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                   absl::Span<const int> fds, Done done, bool want_ack);

  /// Does what is possible now: sends waiting requests, receives replies, and ends the channel if a
  /// deadline is over. Returns the channel's error, if it has one.
  absl::Status Process();

  /// Ends the channel; every request under way fails with @p status.
  void Close(absl::Status status);

 private:
  struct Outstanding {
    uint32_t request = 0;
    const Format* format = nullptr;
    bool is_ack = false;
    // A time of Uptime().
    absl::Duration deadline;
    Done done;
  };
  // A request that waits because the socket or outstanding_ is full.
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
    kNot,           // The request must wait.
    kAwaitsAnswer,  // @done was moved away; it stays in the other cases.
    kDone,          // No answer will come.
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
  // A ring buffer; the oldest request is at first_.
  std::array<Outstanding, kMaxOutstanding> outstanding_;
  size_t first_ = 0;
  size_t nr_outstanding_ = 0;
  std::deque<Queued> queue_;
  Message message_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_REQUESTER_H_
