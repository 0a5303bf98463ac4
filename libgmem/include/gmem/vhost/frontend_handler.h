// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_FRONTEND_HANDLER_H_
#define GMEM_VHOST_FRONTEND_HANDLER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// What SET_VRING_* say of a virtqueue. Use designated initialisers.
struct VringSetup {
  /// Entries; not 0.
  uint32_t size = 0;
  /// Where the back-end goes on: for a split virtqueue the index in the available ring;
  /// for a packed one bits 0-14 the available, 16-30 the used ring's, 15 and 31 the wrap
  /// counters.
  uint32_t base = 0;
  /// User addresses of regions in the memory table, or what the features say instead:
  /// see VringAddress. `index` is set by the call.
  VringAddress address = {};
  /// Eventfds, borrowed for the call. Without a kick fd the back-end is told in-band, if
  /// ProtocolFeature::kInbandNotifications is negotiated, else it polls.
  int kick_fd = -1;
  int call_fd = -1;
  int err_fd = -1;
  /// Enable it, too?
  bool enable = true;
};

/// What a back-end asks its Frontend for by itself. A status that isn't OK refuses. Called
/// from inside Process(), Call() and all that wait. What isn't overridden is refused,
/// unless it says otherwise.
class FrontendHandler {
 public:
  FrontendHandler() = default;
  virtual ~FrontendHandler() = default;
  /// The configuration space has changed. Not refused by default.
  virtual absl::Status OnConfigChange() { return absl::OkStatus(); }
  /// A translation is missing (kMiss) or was refused (kAccessFail). Answer a miss with
  /// Start<FrontendRequest::kIotlbMsg>(), now or later.
  virtual absl::Status OnIotlb(const IotlbMessage& message);
  /// The back-end has used buffers: an interrupt for the guest, in-band.
  virtual absl::Status OnVringCall(unsigned index);
  /// The virtqueue is broken, in-band.
  virtual absl::Status OnVringErr(unsigned index);
  /// The virtqueue's doorbell is @p page of this process from now on (one host page),
  /// which the VMM may map into the guest; null: no more. The old page goes when this
  /// returns. Null can't be refused.
  virtual absl::Status OnHostNotifier(unsigned index, uint8_t* page);
  /// The connection is over; all is unmapped. Reconnect() later, not from here.
  virtual void OnDisconnect(const absl::Status& why);

 protected:
  FrontendHandler(const FrontendHandler&) = default;
  FrontendHandler& operator=(const FrontendHandler&) = default;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_FRONTEND_HANDLER_H_
