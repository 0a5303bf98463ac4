// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/responder.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

absl::StatusOr<Responder::Request> Responder::Next() {
  GMEM_RETURN_IF_ERROR(connection_.Flush());
  if (has_unsent_reply_) {
    GMEM_ASSIGN_OR_RETURN(const bool sent, SendReply());
    if (!sent) return Request();
  }
  GMEM_ASSIGN_OR_RETURN(const bool received, connection_.Receive(message_));
  if (!received) return Request();
  return Request{.message = &message_,
                 .status = peer_ == Side::kFrontend ? CheckFrontendRequest(message_)
                                                    : CheckBackendRequest(message_)};
}

absl::Status Responder::Reply(absl::Span<const uint8_t> payload, absl::Span<const int> fds) {
  GMEM_ASSIGN_OR_RETURN(const bool sent, connection_.Send(message_.header.request,
                                                          kVersion | kFlagReply, payload, fds));
  if (sent) return absl::OkStatus();
  unsent_request_ = message_.header.request;
  unsent_payload_.assign(payload.begin(), payload.end());
  unsent_fds_.Clear();
  for (const int fd : fds) {
    GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(fd));
    unsent_fds_.Add(std::move(copy));
  }
  has_unsent_reply_ = true;
  return absl::OkStatus();
}

absl::StatusOr<bool> Responder::SendReply() {
  std::array<int, kMaxFds> fds;
  for (size_t i = 0; i < unsent_fds_.size(); i++) fds[i] = unsent_fds_.get(i);
  GMEM_ASSIGN_OR_RETURN(const bool sent,
                        connection_.Send(unsent_request_, kVersion | kFlagReply, unsent_payload_,
                                         absl::MakeConstSpan(fds.data(), unsent_fds_.size())));
  if (!sent) return false;
  unsent_fds_.Clear();
  has_unsent_reply_ = false;
  return true;
}

absl::Status Responder::Acknowledge(const absl::Status& result) {
  if (!reply_ack_ || !message_.needs_reply()) return absl::OkStatus();
  // Any number except 0 means failure. An errno also gives the reason to peers that know the
  // convention.
  const uint64_t ack = result.ok() ? 0 : static_cast<uint64_t>(GetErrno(result).value_or(EIO));
  return Reply(AsBytes(ack));
}

bool Responder::can_refuse() const {
  if (!reply_ack_ || !message_.needs_reply()) return false;
  const Format* const format =
      peer_ == Side::kFrontend ? FindFormat(static_cast<FrontendRequest>(message_.header.request))
                               : FindFormat(static_cast<BackendRequest>(message_.header.request));
  return format == nullptr || !format->has_reply;
}

}  // namespace gmem::vhost
