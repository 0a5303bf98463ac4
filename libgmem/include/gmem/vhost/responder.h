// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_RESPONDER_H_
#define GMEM_VHOST_RESPONDER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"

namespace gmem::vhost {

/// The end of a channel that is asked: the back-end's of the main channel, the
/// front-end's of the back-end channel. Its owner's loop takes requests from Next() when
/// fd() is readable (or writable, if wants_write()), and answers each before it takes
/// the next. Nothing here blocks.
///
/// Thread-compatible.
class Responder {
 public:
  /// A request, checked: @p status is OK, or what is wrong with it.
  struct Request {
    Message* message = nullptr;
    absl::Status status;
  };

  /// Whose requests come here.
  enum class Side { kFrontend, kBackend };

  Responder(Connection connection, Side peer) : connection_(std::move(connection)), peer_(peer) {}
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  /// Was ProtocolFeature::kReplyAck negotiated? False at first.
  void set_reply_ack(bool reply_ack) { reply_ack_ = reply_ack; }
  bool reply_ack() const { return reply_ack_; }

  int fd() const { return connection_.fd(); }
  bool wants_write() const { return connection_.has_unsent() || has_unsent_reply_; }

  /// The next request, or a null message if there is none now, or an earlier reply waits
  /// for the peer to read. The message, with its descriptors, is valid until the next
  /// call. An error is the end of the channel: close it.
  absl::StatusOr<Request> Next();

  /// Answers the last request with a payload, and with descriptors, which stay the
  /// caller's. For requests that have a reply of their own.
  absl::Status Reply(absl::Span<const uint8_t> payload, absl::Span<const int> fds = {});

  /// Answers the last request with how it went, if it asks for that: 0, or an errno. For
  /// requests without a reply of their own.
  absl::Status Acknowledge(const absl::Status& result);

  /// Can the last request be told that it failed? If it can't, and that must not pass
  /// unnoticed, only the end of the channel is left.
  bool can_refuse() const;

  void Close() { connection_.Close(); }

 private:
  absl::StatusOr<bool> SendReply();

  Connection connection_;
  const Side peer_;
  bool reply_ack_ = false;
  Message message_;
  // A reply that found the socket full.
  bool has_unsent_reply_ = false;
  uint32_t unsent_request_ = 0;
  std::vector<uint8_t> unsent_payload_;
  FdList unsent_fds_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_RESPONDER_H_
