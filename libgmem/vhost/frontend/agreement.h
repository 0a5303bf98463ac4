// SPDX-License-Identifier: MIT OR Apache-2.0
// The features and limits that front-end and back-end agree on. Not installed.
#ifndef GMEM_VHOST_FRONTEND_AGREEMENT_H_
#define GMEM_VHOST_FRONTEND_AGREEMENT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Negotiates, and remembers the result, which a later back-end must offer, too.
class Agreement {
 public:
  // Takes no protocol feature outside @wanted.
  Agreement(Session& session, uint64_t wanted) : session_(session), wanted_(wanted) {}
  Agreement(const Agreement&) = delete;
  Agreement& operator=(const Agreement&) = delete;

  // Asks for the features, sets the protocol features and asks for the limits. With @like_before,
  // takes those protocol features that the first agreement has: FailedPrecondition if this back-end
  // offers less.
  absl::Status Reach(bool like_before);
  // The rest of the negotiation has worked, too.
  void Conclude();
  bool is_concluded() const { return is_concluded_; }
  // The connection has ended.
  void Suspend() { is_concluded_ = false; }

  bool Has(ProtocolFeature feature) const { return (protocol_features_ & Bit(feature)) != 0; }
  // Unimplemented (EOPNOTSUPP) without @feature, which @request needs.
  absl::Status Need(ProtocolFeature feature, absl::string_view request) const;
  uint64_t protocol_features() const { return protocol_features_; }
  // Does the back-end know of protocol features at all?
  bool has_protocol_features() const {
    return (offered_ & Bit(VirtioFeature::kProtocolFeatures)) != 0;
  }

  // The virtio features: those to choose from, and those that were set last.
  uint64_t features() const;
  uint64_t acked_features() const { return acked_.value_or(0); }
  bool HasAcked(VirtioFeature feature) const { return (acked_features() & Bit(feature)) != 0; }
  absl::Status SendFeatures(uint64_t features);

  // For Reconnect() and a reset: nothing if no features were set.
  std::optional<uint64_t> acked() const { return acked_; }
  void set_acked(std::optional<uint64_t> acked) { acked_ = acked; }

  uint64_t queue_num() const { return queue_num_; }
  size_t max_slots() const { return max_slots_; }
  // The regions of memory that this back-end takes, or the next one must take.
  size_t slots_for_good() const { return std::max(max_slots_, min_slots_); }

 private:
  absl::Status SetProtocolFeatures(std::optional<uint64_t> exactly);
  absl::Status AskLimits();

  Session& session_;
  const uint64_t wanted_;
  uint64_t offered_ = 0;
  std::optional<uint64_t> acked_;
  uint64_t protocol_features_ = 0;
  // The protocol features of the first agreement.
  std::optional<uint64_t> first_;
  bool is_concluded_ = false;
  uint64_t queue_num_ = 1;
  size_t max_slots_ = kMaxTableRegions;
  // The limit of an earlier back-end; a later one may not have a lower limit.
  size_t min_slots_ = 0;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_AGREEMENT_H_
