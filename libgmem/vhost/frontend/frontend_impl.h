// SPDX-License-Identifier: MIT OR Apache-2.0
// The parts of a front-end, and the order in which they act. Not installed.
#ifndef GMEM_VHOST_FRONTEND_FRONTEND_IMPL_H_
#define GMEM_VHOST_FRONTEND_FRONTEND_IMPL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/shmem.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_channel.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/backend_requests.h"
#include "vhost/frontend/device_requests.h"
#include "vhost/frontend/device_status.h"
#include "vhost/frontend/host_notifiers.h"
#include "vhost/frontend/inflight_buffer.h"
#include "vhost/frontend/postcopy_phase.h"
#include "vhost/frontend/session.h"
#include "vhost/frontend/vrings.h"
#include "vhost/frontend/write_log.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Has one part for each job, and methods for the jobs that need several parts; see Frontend for
// each of them. Parts hold references to each other, which they don't use before all are made.
struct [[gnu::visibility("hidden")]] FrontendImpl final : public Session::Client {
  // @given: null for the default handler.
  FrontendImpl(const Frontend* frontend, Frontend::Options options, FrontendHandler* given);
  FrontendImpl(const FrontendImpl&) = delete;
  FrontendImpl& operator=(const FrontendImpl&) = delete;

  absl::Status Negotiate();
  absl::Status Reconnect(Connection connection);
  absl::Status SetFeatures(uint64_t features);
  absl::Status SetStatus(uint8_t status);
  absl::Status DriverOk();
  absl::Status ResetDevice();
  absl::StatusOr<uint32_t> GetVringBase(unsigned index);

  // Takes the place of a null handler.
  FrontendHandler no_handler;
  FrontendHandler& handler;
  ShmemRegions shmem;
  BackendRequests requests;
  BackendChannel backend;
  Session session;
  Agreement agreement;
  HostNotifiers notifiers;
  BackendMemory memory;
  PostcopyPhase postcopy;
  Vrings vrings;
  InflightBuffer inflight;
  WriteLog log;
  DeviceStatusRegister device_status;
  DeviceRequests device;

 private:
  struct Remembered;

  void OnEnd(const absl::Status& why) override;
  absl::Status NegotiateAll(bool like_before);
  absl::Status OpenBackendChannel();
  absl::Status MakeShmem();
  absl::Status StopVrings();
  absl::Status ForgetDevice();
  absl::Status Resume(const Remembered& remembered);
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_FRONTEND_IMPL_H_
