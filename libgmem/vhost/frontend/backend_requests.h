// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests that a back-end sends to its front-end. Not installed.
#ifndef GMEM_VHOST_FRONTEND_BACKEND_REQUESTS_H_
#define GMEM_VHOST_FRONTEND_BACKEND_REQUESTS_H_

#include "absl/status/status.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_channel.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/host_notifiers.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Carries out a request if the feature that it needs is negotiated; a table has the method for each
// request. Runs the handler's callbacks, so the caller must hold a Busy.
class BackendRequests final : public BackendChannel::Client {
 public:
  // Parts of the front-end that requests reach.
  struct Parts {
    // SharedObjects knows the back-end by its front-end.
    const Frontend* owner;
    FrontendHandler& handler;
    // Null if there is none.
    SharedObjects* objects;
    ShmemRegions& shmem;
    Session& session;
    const Agreement& agreement;
    const BackendMemory& memory;
    HostNotifiers& notifiers;
  };

  explicit BackendRequests(const Parts& parts) : parts_(parts) {}
  BackendRequests(const BackendRequests&) = delete;
  BackendRequests& operator=(const BackendRequests&) = delete;

  BackendChannel::Outcome Handle(Message& message) override;
  void OnChannelClosed() override;

  // Unmaps host notifiers and shared memory.
  absl::Status UnmapAll();

 private:
  using Outcome = BackendChannel::Outcome;
  // A line of the table.
  struct Entry {
    BackendRequest request;
    ProtocolFeature needs;
    Outcome (*handle)(BackendRequests& self, Message& message);
  };
  static const Entry* Find(BackendRequest request);

  // Decodes the payload of kRequest and calls kMethod with it.
  template <BackendRequest kRequest, auto kMethod>
  static Outcome Decode(BackendRequests& self, Message& message);

  absl::Status Translate(const IotlbMessage& message);
  absl::Status ChangeConfig(const Empty& empty);
  absl::Status SetHostNotifier(const VringArea& area, FdList& fds);
  absl::Status CallVring(const VringState& vring);
  absl::Status BreakVring(const VringState& vring);
  absl::Status AddObject(const Uuid& uuid);
  absl::Status RemoveObject(const Uuid& uuid) const;
  Outcome LookUpObject(const Uuid& uuid) const;
  absl::Status MapShmem(const ShmemMapping& mapping, FdList& fds);
  absl::Status UnmapShmem(const ShmemMapping& mapping);

  const Parts parts_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_BACKEND_REQUESTS_H_
