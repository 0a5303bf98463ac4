// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// The end of a channel that answers requests: the back-end on the main channel, the front-end on
/// the back-end channel. When fd() is readable (or writable, if wants_write()), the owner's loop
/// takes requests from Next(), and answers each before it takes the next. No call blocks.
///
/// Thread-compatible.
class Responder {
 public:
  /// A checked request: @p status is OK, or says why the request is malformed.
  struct Request {
    Message* message = nullptr;
    absl::Status status;
  };

  /// The end that sends the requests.
  enum class Side { kFrontend, kBackend };

  Responder(Connection connection, Side peer) : connection_(std::move(connection)), peer_(peer) {}
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  /// Was ProtocolFeature::kReplyAck negotiated? False at first.
  void set_reply_ack(bool reply_ack) { reply_ack_ = reply_ack; }
  bool reply_ack() const { return reply_ack_; }

  int fd() const { return connection_.fd(); }
  bool wants_write() const { return connection_.has_unsent() || has_unsent_reply_; }

  /// Returns the next request. The message is null if no request is there, or if an earlier reply
  /// still waits until the peer reads. The message and its descriptors are valid until the next
  /// call. An error ends the channel: close it.
  absl::StatusOr<Request> Next();

  /// Answers the last request, which has a reply of its own, with a payload and descriptors. The
  /// caller keeps @p fds.
  absl::Status Reply(absl::Span<const uint8_t> payload, absl::Span<const int> fds = {});

  /// Acknowledges the last request, which has no reply of its own, with 0 or an errno. Sends
  /// nothing if the peer didn't ask for an acknowledgement.
  absl::Status Acknowledge(const absl::Status& result);

  /// Can the peer learn that the last request failed? If not, and if the peer must know, close the
  /// channel.
  bool can_refuse() const;

  void Close() { connection_.Close(); }

 private:
  absl::StatusOr<bool> SendReply();

  Connection connection_;
  const Side peer_;
  bool reply_ack_ = false;
  Message message_;
  // A reply that waits because the socket was full.
  bool has_unsent_reply_ = false;
  uint32_t unsent_request_ = 0;
  std::vector<uint8_t> unsent_payload_;
  FdList unsent_fds_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_RESPONDER_H_
