// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_FRONTEND_HANDLER_H_
#define GMEM_VHOST_FRONTEND_HANDLER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The contents of SET_VRING_* for one virtqueue. Use designated initialisers.
struct VringSetup {
  /// Entries; not 0.
  uint32_t size = 0;
  /// The place where the back-end goes on. A split virtqueue: the index in the available ring. A
  /// packed one: bits 0-14 the available ring's, 16-30 the used ring's, 15 and 31 the wrap
  /// counters.
  uint32_t base = 0;
  /// User addresses of regions in the memory table, or as the features say, see VringAddress. The
  /// call sets `index`.
  VringAddress address = {};
  /// Eventfds, borrowed for the call; negative: none. Without a kick descriptor, kicks go in-band
  /// if ProtocolFeature::kInbandNotifications is negotiated; otherwise the back-end polls.
  int kick_fd = -1;
  int call_fd = -1;
  int err_fd = -1;
  /// Enable the virtqueue, too?
  bool enable = true;
};

/// Carries out a back-end's own requests; a VMM overrides the methods that it needs. A status that
/// isn't OK refuses the request. The Frontend runs them inside Process(), Call() and all methods
/// that wait, on the caller's thread. Each default refuses with Unimplemented (EOPNOTSUPP), unless
/// it says otherwise.
class FrontendHandler {
 public:
  FrontendHandler() = default;
  virtual ~FrontendHandler() = default;
  /// The configuration space has changed. The default accepts.
  virtual absl::Status OnConfigChange() { return absl::OkStatus(); }
  /// A translation is missing (kMiss), or an access was refused (kAccessFail). Answer a miss with
  /// Start<FrontendRequest::kIotlbMsg>(), now or later.
  virtual absl::Status OnIotlb(const IotlbMessage& message);
  /// The back-end has used buffers and sends the guest an interrupt, in-band.
  virtual absl::Status OnVringCall(unsigned index);
  /// The virtqueue is broken, in-band.
  virtual absl::Status OnVringErr(unsigned index);
  /// The virtqueue's doorbell is @p page of this process from now on (one host page), which the VMM
  /// may map into the guest. Null: there is no doorbell now; the result is ignored. The old page is
  /// unmapped when this returns.
  virtual absl::Status OnHostNotifier(unsigned index, uint8_t* page);
  /// The connection is over, and everything is unmapped. Call Reconnect() later, not from here.
  virtual void OnDisconnect(const absl::Status& why);

 protected:
  FrontendHandler(const FrontendHandler&) = default;
  FrontendHandler& operator=(const FrontendHandler&) = default;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_FRONTEND_HANDLER_H_
