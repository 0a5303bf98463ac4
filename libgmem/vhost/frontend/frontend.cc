// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/frontend.h"

#include <linux/gmem.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/postcopy.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/shmem.h"
#include "module/object_name.h"
#include "vhost/frontend/frontend_impl.h"

namespace gmem::vhost {

Frontend::Frontend(Options options, Handler* handler)
    : impl_(std::make_unique<frontend_internal::FrontendImpl>(this, std::move(options), handler)) {}

absl::StatusOr<std::unique_ptr<Frontend>> Frontend::Create(Connection connection, Options options,
                                                           Handler* handler) {
  uint8_t name[GMEM_OBJECT_NAME_LEN];
  GMEM_RETURN_IF_ERROR(internal::SetName(options.view_name, name));
  if (options.shmem_factory == nullptr) {
    options.protocol_features &= ~Bit(ProtocolFeature::kShmemMap);
  }
  if (options.shared_objects == nullptr) {
    options.protocol_features &= ~Bit(ProtocolFeature::kSharedObject);
  }
  auto frontend = absl::WrapUnique(new Frontend(std::move(options), handler));
  GMEM_RETURN_IF_ERROR(frontend->impl_->session.Open());
  GMEM_RETURN_IF_ERROR(frontend->impl_->session.Attach(std::move(connection)));
  return frontend;
}

// Here, not in the implementation's destructor: callbacks that this runs may call methods.
Frontend::~Frontend() { impl_->session.Shutdown(); }

int Frontend::fd() const { return impl_->session.fd(); }
absl::Time Frontend::next_deadline() const { return impl_->session.next_deadline(); }
absl::Status Frontend::Process() { return impl_->session.Process(); }
const absl::Status& Frontend::status() const { return impl_->session.status(); }
const absl::Status& Frontend::backend_channel_status() const { return impl_->backend.status(); }
uint64_t Frontend::nr_refused() const { return impl_->backend.nr_refused(); }
void Frontend::Close() { impl_->session.Close(); }
absl::Status Frontend::Reconnect(Connection connection) {
  return impl_->Reconnect(std::move(connection));
}

void Frontend::StartBytes(FrontendRequest request, absl::Span<const uint8_t> payload,
                          absl::Span<const int> fds, Requester::Done done, bool want_ack) {
  impl_->session.Start(request, *FindFormat(request), payload, fds, std::move(done), want_ack);
}
absl::Status Frontend::CallBytes(FrontendRequest request, absl::Span<const uint8_t> payload,
                                 absl::Span<const int> fds, Confirm confirm,
                                 absl::Span<uint8_t> reply, FdList* reply_fds) {
  return impl_->session.Call(request, *FindFormat(request), payload, fds, confirm,
                             {.payload = reply, .fds = reply_fds});
}

absl::Status Frontend::Negotiate() { return impl_->Negotiate(); }
uint64_t Frontend::protocol_features() const { return impl_->agreement.protocol_features(); }
uint64_t Frontend::features() const { return impl_->agreement.features(); }
uint64_t Frontend::acked_features() const { return impl_->agreement.acked_features(); }
absl::Status Frontend::SetFeatures(uint64_t features) { return impl_->SetFeatures(features); }
uint64_t Frontend::queue_num() const { return impl_->agreement.queue_num(); }

absl::StatusOr<std::string> Frontend::GetConfig(uint32_t offset, uint32_t size) {
  return impl_->device.GetConfig(offset, size);
}
absl::Status Frontend::SetConfig(uint32_t offset, absl::string_view bytes, uint32_t flags) {
  return impl_->device.SetConfig(offset, bytes, flags);
}
absl::StatusOr<uint8_t> Frontend::GetStatus() { return impl_->device_status.Get(); }
absl::Status Frontend::SetStatus(uint8_t status) { return impl_->SetStatus(status); }
absl::Status Frontend::DriverOk() { return impl_->DriverOk(); }
absl::Status Frontend::ResetDevice() { return impl_->ResetDevice(); }
absl::Status Frontend::SetMtu(uint16_t mtu) { return impl_->device.SetMtu(mtu); }
absl::Status Frontend::SendRarp(const std::array<uint8_t, 6>& mac) {
  return impl_->device.SendRarp(mac);
}
absl::Status Frontend::SetGpuSocket(int socket) { return impl_->device.SetGpuSocket(socket); }
absl::Status Frontend::SendIotlb(const IotlbMessage& message) {
  return impl_->device.SendIotlb(message);
}
absl::StatusOr<int64_t> Frontend::CreateCryptoSession(const CryptoSession& session) {
  return impl_->device.CreateCryptoSession(session);
}
absl::Status Frontend::CloseCryptoSession(int64_t session) {
  return impl_->device.CloseCryptoSession(session);
}
absl::StatusOr<UniqueFd> Frontend::SetDeviceStateFd(TransferDirection direction, int fd) {
  return impl_->device.SetDeviceStateFd(direction, fd);
}
absl::Status Frontend::CheckDeviceState() { return impl_->device.CheckDeviceState(); }
absl::StatusOr<UniqueFd> Frontend::GetSharedObject(const Uuid& uuid) {
  return impl_->device.GetSharedObject(uuid);
}

absl::Status Frontend::StartVring(unsigned index, const VringSetup& setup) {
  return impl_->vrings.Start(index, setup);
}
absl::Status Frontend::SetVringNum(unsigned index, uint32_t size) {
  return impl_->vrings.SetNum(index, size);
}
absl::Status Frontend::SetVringBase(unsigned index, uint32_t base) {
  return impl_->vrings.SetBase(index, base);
}
absl::Status Frontend::SetVringAddr(const VringAddress& address) {
  return impl_->vrings.SetAddr(address);
}
absl::Status Frontend::SetVringKick(unsigned index, int fd) {
  return impl_->vrings.SetKick(index, fd);
}
absl::Status Frontend::SetVringCall(unsigned index, int fd) {
  return impl_->vrings.SetCall(index, fd);
}
absl::Status Frontend::SetVringErr(unsigned index, int fd) {
  return impl_->vrings.SetErr(index, fd);
}
absl::Status Frontend::SetVringEnable(unsigned index, bool enable) {
  return impl_->vrings.SetEnable(index, enable);
}
absl::Status Frontend::SetVringEndian(unsigned index, bool big_endian) {
  return impl_->vrings.SetEndian(index, big_endian);
}
absl::StatusOr<uint32_t> Frontend::GetVringBase(unsigned index) {
  return impl_->GetVringBase(index);
}
absl::Status Frontend::Kick(unsigned index) { return impl_->vrings.Kick(index); }

absl::Status Frontend::SetMemory(absl::Span<const GuestRegion> regions) {
  return impl_->memory.Set(regions, !impl_->vrings.started().empty());
}
size_t Frontend::max_memory_slots() const { return impl_->agreement.max_slots(); }
absl::Span<const SharedRegion> Frontend::memory() const { return impl_->memory.regions(); }

absl::Status Frontend::StartInflight(uint16_t nr_queues, uint16_t queue_size) {
  return impl_->inflight.Start(nr_queues, queue_size);
}
absl::Status Frontend::SetInflight(const InflightArea& area, int fd) {
  return impl_->inflight.Set(area, fd);
}
int Frontend::inflight_fd() const { return impl_->inflight.fd(); }
const InflightArea& Frontend::inflight_area() const { return impl_->inflight.area(); }

absl::Status Frontend::StartLog(const DirtyLog& log) { return impl_->log.Start(log); }
absl::Status Frontend::StopLog() { return impl_->log.Stop(); }

absl::Status Frontend::PostcopyAdvise() { return impl_->postcopy.Advise(); }
absl::Status Frontend::PostcopyListen() { return impl_->postcopy.Listen(); }
absl::Status Frontend::PostcopyEnd() { return impl_->postcopy.End(); }
absl::StatusOr<const Faults*> Frontend::faults() const { return impl_->postcopy.faults(); }

ShmemRegions& Frontend::shmem() { return impl_->shmem; }

}  // namespace gmem::vhost
