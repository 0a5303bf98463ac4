// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/vrings.h"

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/backend_memory.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

absl::Status CheckIndex(unsigned index) {
  if (index < kMaxQueues) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("there is no virtqueue ", index, ": below ", kMaxQueues));
}

// The offset of the index in the used ring of a split virtqueue (virtio 1.3, 2.7.8).
constexpr uint64_t kUsedIndexOffset = 2;

// The little-endian number of two bytes at @address, if it lies in @memory. @kind: guest or user
// addresses.
std::optional<uint16_t> ReadShared(absl::Span<const SharedRegion> memory, uint64_t address,
                                   uint64_t MemoryRegion::*kind) {
  for (const SharedRegion& region : memory) {
    const uint64_t start = region.wire.*kind;
    if (region.wire.size < sizeof(uint16_t) || address < start ||
        address - start > region.wire.size - sizeof(uint16_t)) {
      continue;
    }
    if ((address - start) % sizeof(uint16_t) != 0) return std::nullopt;
    const ByteOffset offset(region.wire.mmap_offset);
    // A back-end may have shortened the file, so that a mapping would raise SIGBUS.
    uint16_t read = 0;
    const ssize_t got = pread(region.fd.get(), &read, sizeof(read),
                              static_cast<off_t>(offset.value() + (address - start)));
    if (got == sizeof(read)) return read;
    // Nobody can shorten a file without read(): a guestmem, KVM's guest_memfd, or memory of a
    // driver. Map the whole region, as the back-end does: one page of a file with huge pages can't
    // be mapped.
    const bool has_read = got >= 0 || (errno != EINVAL && errno != ESPIPE);
    const ByteSize size(region.wire.size);
    if (has_read || !internal::CheckFileReaches(region.fd.get(), offset, size).ok()) {
      return std::nullopt;
    }
    const absl::StatusOr<Mapping> mapping = Mapping::OfFile(
        region.fd.get(), {.offset = offset, .size = size, .access = MemoryAccess::kReadOnly});
    if (!mapping.ok()) return std::nullopt;
    const auto* const number =
        reinterpret_cast<const volatile uint16_t*>(mapping->data() + (address - start));
    return *number;
  }
  return std::nullopt;
}

}  // namespace

absl::Status Vrings::SetNum(unsigned index, uint32_t size) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  if (size == 0 || size > kMaxQueueSize) {
    return CheckError(EINVAL, absl::StrCat("virtqueue ", index, " can't have ", size,
                                           " entries: 1 to ", kMaxQueueSize));
  }
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetVringNum>({.index = index, .num = size}));
  vrings_[index].size = size;
  return absl::OkStatus();
}

absl::Status Vrings::SetBase(unsigned index, uint32_t base) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetVringBase>({.index = index, .num = base}));
  vrings_[index].base = base;
  return absl::OkStatus();
}

absl::Status Vrings::SetAddr(const VringAddress& address) {
  GMEM_RETURN_IF_ERROR(CheckIndex(address.index));
  GMEM_RETURN_IF_ERROR(SendAddress(address));
  vrings_[address.index].address = address;
  return absl::OkStatus();
}

absl::Status Vrings::SendAddress(VringAddress address) {
  const bool logs = address.log != 0 && agreement_.HasAcked(VirtioFeature::kLogAll);
  address.flags = logs ? kVringLog : 0;
  return session_.Do<FrontendRequest::kSetVringAddr>(
      address, {}, logs ? Session::Confirm::kAlways : Session::Confirm::kIfAcked);
}

absl::Status Vrings::SendAddresses() {
  for (const auto& [index, vring] : vrings_) {
    if (vring.address) GMEM_RETURN_IF_ERROR(SendAddress(*vring.address));
  }
  return absl::OkStatus();
}

absl::Status Vrings::SetFd(FrontendRequest request, unsigned index, int fd,
                           std::optional<UniqueFd> Vring::*member) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  UniqueFd copy;
  if (fd >= 0) {
    GMEM_ASSIGN_OR_RETURN(copy, UniqueFd::Duplicate(fd));
  }
  const uint64_t vring = index | (fd < 0 ? kVringNoFd : 0);
  GMEM_RETURN_IF_ERROR(session_.Call(request, *FindFormat(request), AsBytes(vring),
                                     absl::MakeConstSpan(&fd, fd < 0 ? 0 : 1),
                                     Session::Confirm::kIfAcked, {}));
  vrings_[index].*member = std::move(copy);
  return absl::OkStatus();
}

absl::Status Vrings::SetKick(unsigned index, int fd) {
  return SetFd(FrontendRequest::kSetVringKick, index, fd, &Vring::kick);
}
absl::Status Vrings::SetCall(unsigned index, int fd) {
  return SetFd(FrontendRequest::kSetVringCall, index, fd, &Vring::call);
}
absl::Status Vrings::SetErr(unsigned index, int fd) {
  return SetFd(FrontendRequest::kSetVringErr, index, fd, &Vring::err);
}

absl::Status Vrings::SetEnable(unsigned index, bool enable) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  if (!agreement_.has_protocol_features()) {
    if (enable) return absl::OkStatus();
    return CheckError(EOPNOTSUPP,
                      "this back-end can't disable a virtqueue: it has no protocol features");
  }
  // When this returns, the back-end no longer touches a disabled virtqueue.
  GMEM_RETURN_IF_ERROR(session_.Do<FrontendRequest::kSetVringEnable>(
      {.index = index, .num = enable ? 1u : 0u}, {},
      enable ? Session::Confirm::kIfAcked : Session::Confirm::kAlways));
  vrings_[index].enabled = enable;
  return absl::OkStatus();
}

absl::Status Vrings::SetEndian(unsigned index, bool big_endian) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kCrossEndian, "SET_VRING_ENDIAN"));
  GMEM_RETURN_IF_ERROR(
      session_.Do<FrontendRequest::kSetVringEndian>({.index = index, .num = big_endian ? 1u : 0u}));
  vrings_[index].big_endian = big_endian;
  return absl::OkStatus();
}

absl::Status Vrings::Start(unsigned index, const VringSetup& setup) {
  const Session::Deadline deadline(session_);
  VringAddress address = setup.address;
  address.index = index;
  GMEM_RETURN_IF_ERROR(SetNum(index, setup.size));
  GMEM_RETURN_IF_ERROR(SetBase(index, setup.base));
  GMEM_RETURN_IF_ERROR(SetAddr(address));
  if (setup.err_fd >= 0) GMEM_RETURN_IF_ERROR(SetErr(index, setup.err_fd));
  GMEM_RETURN_IF_ERROR(SetCall(index, setup.call_fd));
  // The kick starts the virtqueue, so it comes after everything else.
  GMEM_RETURN_IF_ERROR(SetKick(index, setup.kick_fd));
  return setup.enable ? SetEnable(index, true) : absl::OkStatus();
}

std::vector<unsigned> Vrings::started() const {
  std::vector<unsigned> started;
  for (const auto& [index, vring] : vrings_) {
    if (vring.kick || vring.was_kicked_in_band) started.push_back(index);
  }
  return started;
}

absl::StatusOr<VringState> Vrings::Stop(unsigned index) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_ASSIGN_OR_RETURN(const VringState state,
                        session_.Call<FrontendRequest::kGetVringBase>({.index = index, .num = 0}));
  // The back-end has stopped the virtqueue, whatever it answers.
  vrings_.erase(index);
  return state;
}

absl::Status Vrings::Kick(unsigned index) {
  const auto vring = vrings_.find(index);
  if (vring != vrings_.end() && vring->second.kick && vring->second.kick->is_valid()) {
    const absl::Status status = signaler_.Signal(vring->second.kick->get());
    if (status.ok()) return absl::OkStatus();
    return CheckError(GetErrno(status).value_or(EIO),
                      absl::StrCat("can't kick virtqueue ", index, ": ", status.message()));
  }
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(
      agreement_.Need(ProtocolFeature::kInbandNotifications, "a kick without a descriptor"));
  if (session_.is_full()) {
    return CheckError(ENOMEM, absl::StrCat("the kick of virtqueue ", index, " isn't sent: ",
                                           Requester::kMaxQueued, " requests wait already"));
  }
  session_.Start<FrontendRequest::kVringKick>(
      {.index = index, .num = 0}, [](const absl::StatusOr<Message*>& /*sent*/) {},
      /*want_ack=*/false);
  // It starts only with addresses.
  if (vring != vrings_.end() && vring->second.address) vring->second.was_kicked_in_band = true;
  return session_.status();
}

uint32_t Vrings::ResumeBase(const Vring& vring, const BackendMemory& memory) const {
  const uint32_t last = vring.base.value_or(0);
  // A packed virtqueue has no used index, and I/O virtual addresses aren't in the table.
  if (agreement_.HasAcked(VirtioFeature::kRingPacked) ||
      agreement_.HasAcked(VirtioFeature::kIommuPlatform) || !vring.address) {
    return last;
  }
  return ReadShared(memory.regions(), vring.address->used + kUsedIndexOffset,
                    agreement_.Has(ProtocolFeature::kGpaAddresses) ? &MemoryRegion::guest_address
                                                                   : &MemoryRegion::user_address)
      .value_or(static_cast<uint16_t>(last));
}

absl::Status Vrings::ResumeOne(unsigned index, const Vring& vring, const BackendMemory& memory) {
  if (vring.big_endian) GMEM_RETURN_IF_ERROR(SetEndian(index, *vring.big_endian));
  if (vring.size) GMEM_RETURN_IF_ERROR(SetNum(index, *vring.size));
  if (vring.base) GMEM_RETURN_IF_ERROR(SetBase(index, ResumeBase(vring, memory)));
  if (vring.address) GMEM_RETURN_IF_ERROR(SetAddr(*vring.address));
  if (vring.err) GMEM_RETURN_IF_ERROR(SetErr(index, vring.err->get()));
  if (vring.call) GMEM_RETURN_IF_ERROR(SetCall(index, vring.call->get()));
  if (vring.kick) GMEM_RETURN_IF_ERROR(SetKick(index, vring.kick->get()));
  if (vring.enabled) GMEM_RETURN_IF_ERROR(SetEnable(index, *vring.enabled));
  // The driver's last kick may have gone to the old back-end, which may also have turned kicks off.
  const bool has_kick = vring.kick && vring.kick->is_valid();
  return has_kick || vring.was_kicked_in_band ? Kick(index) : absl::OkStatus();
}

absl::Status Vrings::Resume(const ByIndex& vrings, const BackendMemory& memory) {
  for (const auto& [index, vring] : vrings) {
    GMEM_RETURN_IF_ERROR(ResumeOne(index, vring, memory));
  }
  return absl::OkStatus();
}

}  // namespace gmem::vhost::frontend_internal
