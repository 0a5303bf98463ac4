// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/frontend_impl.h"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/session.h"
#include "vhost/frontend/vrings.h"

namespace gmem::vhost::frontend_internal {

using internal::CheckError;

// The state that a new back-end must learn, except the state that the parts keep themselves.
struct FrontendImpl::Remembered {
  std::vector<SharedRegion> memory;
  Vrings::ByIndex vrings;
  std::optional<uint64_t> features;
  bool is_driver_ok = false;
};

FrontendImpl::FrontendImpl(const Frontend* frontend, Frontend::Options options,
                           FrontendHandler* given)
    : handler(given == nullptr ? no_handler : *given),
      shmem(std::move(options.shmem_factory)),
      requests({.owner = frontend,
                .handler = handler,
                .objects = options.shared_objects,
                .shmem = shmem,
                .session = session,
                .agreement = agreement,
                .memory = memory,
                .notifiers = notifiers}),
      backend(requests),
      session(backend, *this, options.timeout),
      agreement(session, options.protocol_features),
      notifiers(session, handler),
      memory(session, agreement,
             {.whole_guest_memory = options.whole_guest_memory,
              .only_sealed_memory = options.only_sealed_memory,
              .view_name = std::move(options.view_name)}),
      postcopy(session, agreement, memory),
      vrings(session, agreement),
      inflight(session, agreement),
      log(session, agreement, vrings),
      device_status(session, agreement),
      device(session, agreement) {}

void FrontendImpl::OnEnd(const absl::Status& why) {
  // The handler's VMM may unbind memory now.
  memory.RevokeViews();
  postcopy.Abort();
  agreement.Suspend();
  handler.OnDisconnect(why);
}

absl::Status FrontendImpl::Negotiate() {
  const Session::Deadline deadline(session);
  if (agreement.is_concluded()) {
    return absl::FailedPreconditionError("Negotiate() is for once in a connection");
  }
  absl::Status status = NegotiateAll(/*like_before=*/false);
  if (absl::IsDataLoss(status)) session.End(status);
  return status;
}

absl::Status FrontendImpl::NegotiateAll(bool like_before) {
  GMEM_RETURN_IF_ERROR(agreement.Reach(like_before));
  if (agreement.Has(ProtocolFeature::kBackendReq)) GMEM_RETURN_IF_ERROR(OpenBackendChannel());
  GMEM_RETURN_IF_ERROR(session.Do<FrontendRequest::kSetOwner>());
  if (agreement.Has(ProtocolFeature::kShmemMap)) GMEM_RETURN_IF_ERROR(MakeShmem());
  agreement.Conclude();
  return absl::OkStatus();
}

absl::Status FrontendImpl::OpenBackendChannel() {
  // The back-end may have closed the connection right after its last answer.
  GMEM_RETURN_IF_ERROR(session.status());
  // An earlier Negotiate() may have failed: drop all that came over its channel.
  backend.Close(absl::OkStatus());
  // Close() runs the handler, which may have closed the connection.
  GMEM_RETURN_IF_ERROR(session.status());
  GMEM_ASSIGN_OR_RETURN(const UniqueFd theirs,
                        backend.Open(agreement.Has(ProtocolFeature::kReplyAck)));
  const int fd = theirs.get();
  return session.Do<FrontendRequest::kSetBackendReqFd>({}, absl::MakeConstSpan(&fd, 1));
}

absl::Status FrontendImpl::MakeShmem() {
  GMEM_ASSIGN_OR_RETURN(const ShmemConfig config, session.Call<FrontendRequest::kGetShmemConfig>());
  {
    const Session::Busy busy(session);
    GMEM_RETURN_IF_ERROR(shmem.Configure(config));
  }
  // The factory may have closed the connection.
  return session.status();
}

absl::Status FrontendImpl::SetFeatures(uint64_t features) {
  const Session::Deadline deadline(session);
  const uint64_t surplus = features & ~agreement.features();
  if (surplus != 0) {
    return CheckError(EINVAL,
                      absl::StrCat("the device doesn't offer the features 0x", absl::Hex(surplus)));
  }
  // A driver that starts again during a migration doesn't know of the log.
  const uint64_t logs = log.is_on() ? Bit(VirtioFeature::kLogAll) : 0;
  GMEM_RETURN_IF_ERROR(agreement.SendFeatures(features | logs));
  if (!agreement.Has(ProtocolFeature::kStatus)) return absl::OkStatus();
  return device_status.ConfirmFeatures(features);
}

absl::Status FrontendImpl::SetStatus(uint8_t status) {
  const Session::Deadline deadline(session);
  GMEM_RETURN_IF_ERROR(device_status.Set(status));
  return status == 0 ? ForgetDevice() : absl::OkStatus();
}

absl::Status FrontendImpl::DriverOk() {
  const Session::Deadline deadline(session);
  if (!agreement.Has(ProtocolFeature::kStatus)) return absl::OkStatus();
  return device_status.SetDriverOk();
}

absl::Status FrontendImpl::ResetDevice() {
  const Session::Deadline deadline(session);
  const bool has_status = agreement.Has(ProtocolFeature::kStatus);
  bool is_reset = has_status;
  if (agreement.Has(ProtocolFeature::kResetDevice)) {
    const absl::Status status = device.ResetDevice();
    // Some back-ends offer the feature and refuse the request.
    const bool is_refused = GetErrno(status) == EIO && session.status().ok();
    if (!status.ok() && !is_refused) return status;
    is_reset = status.ok();
  }
  if (!is_reset) GMEM_RETURN_IF_ERROR(StopVrings());
  return has_status ? SetStatus(0) : ForgetDevice();
}

absl::Status FrontendImpl::StopVrings() {
  for (const unsigned index : vrings.started()) {
    GMEM_RETURN_IF_ERROR(GetVringBase(index).status());
  }
  return absl::OkStatus();
}

absl::Status FrontendImpl::ForgetDevice() {
  vrings.Clear();
  agreement.set_acked(std::nullopt);
  device_status.set_driver_ok(false);
  return requests.UnmapAll();
}

absl::StatusOr<uint32_t> FrontendImpl::GetVringBase(unsigned index) {
  GMEM_ASSIGN_OR_RETURN(const VringState state, vrings.Stop(index));
  notifiers.Remove(index).IgnoreError();
  if (state.index != index) {
    return CheckError(EIO, absl::StrCat("asked for the base of virtqueue ", index,
                                        ", the back-end gave that of ", state.index));
  }
  return state.num;
}

absl::Status FrontendImpl::Reconnect(Connection connection) {
  const Session::Deadline deadline(session);
  if (session.is_busy()) {
    return absl::FailedPreconditionError("Reconnect() was called from a callback");
  }
  session.Close();
  GMEM_RETURN_IF_ERROR(session.Attach(std::move(connection)));
  // Each request that succeeds is remembered again. If one fails, the next Reconnect() starts with
  // all that was known before.
  Remembered remembered = {.memory = memory.Take(),
                           .vrings = vrings.Take(),
                           .features = agreement.acked(),
                           .is_driver_ok = device_status.is_driver_ok()};
  absl::Status status = Resume(remembered);
  if (status.ok()) return absl::OkStatus();

  memory.Restore(std::move(remembered.memory));
  vrings.Restore(std::move(remembered.vrings));
  agreement.set_acked(remembered.features);
  device_status.set_driver_ok(remembered.is_driver_ok);
  session.End(status);
  return status;
}

absl::Status FrontendImpl::Resume(const Remembered& remembered) {
  GMEM_RETURN_IF_ERROR(NegotiateAll(/*like_before=*/true));
  if (remembered.features) {
    const uint64_t missing = *remembered.features & ~agreement.features();
    if (missing != 0) {
      return absl::FailedPreconditionError(absl::StrCat("the back-end lacks the features 0x",
                                                        absl::Hex(missing),
                                                        ", which the previous back-end had"));
    }
    GMEM_RETURN_IF_ERROR(SetFeatures(*remembered.features));
  }
  GMEM_RETURN_IF_ERROR(memory.Resume(remembered.memory));
  GMEM_RETURN_IF_ERROR(inflight.Resume());
  GMEM_RETURN_IF_ERROR(log.Resume());
  GMEM_RETURN_IF_ERROR(vrings.Resume(remembered.vrings, memory));
  return remembered.is_driver_ok ? DriverOk() : absl::OkStatus();
}

}  // namespace gmem::vhost::frontend_internal
