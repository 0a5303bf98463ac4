// SPDX-License-Identifier: Apache-2.0
// Virtqueues: what the back-end is told of them, and what is remembered for a restart.
#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

absl::Status CheckIndex(unsigned index) {
  if (index < kMaxQueues) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("there is no virtqueue ", index, ": below ", kMaxQueues));
}

// Where the index of a split virtqueue's used ring lies in it (virtio 1.3, 2.7.8).
constexpr uint64_t kUsedIndexOffset = 2;

// A little-endian number of two bytes at @address, of the guest or the front-end.
std::optional<uint16_t> ReadShared(absl::Span<const SharedRegion> memory, uint64_t address,
                                   uint64_t MemoryRegion::*kind) {
  for (const SharedRegion& region : memory) {
    const uint64_t start = region.wire.*kind;
    if (region.wire.size < sizeof(uint16_t) || address < start ||
        address - start > region.wire.size - sizeof(uint16_t)) {
      continue;
    }
    if ((address - start) % sizeof(uint16_t) != 0) return std::nullopt;
    // The whole region, as whoever shares it can map that: pages may be large.
    const ByteOffset offset(region.wire.mmap_offset);
    const ByteSize size(region.wire.size);
    if (!internal::CheckFileReaches(region.fd.get(), offset, size).ok()) return std::nullopt;
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

absl::Status Frontend::SetVringNum(unsigned index, uint32_t size) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  if (size == 0 || size > kMaxQueueSize) {
    return CheckError(EINVAL, absl::StrCat("virtqueue ", index, " can't have ", size,
                                           " entries: 1 to ", kMaxQueueSize));
  }
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetVringNum>({.index = index, .num = size}));
  vrings_[index].size = size;
  return absl::OkStatus();
}

absl::Status Frontend::SetVringBase(unsigned index, uint32_t base) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetVringBase>({.index = index, .num = base}));
  vrings_[index].base = base;
  return absl::OkStatus();
}

absl::Status Frontend::SetVringAddr(const VringAddress& address) {
  GMEM_RETURN_IF_ERROR(CheckIndex(address.index));
  GMEM_RETURN_IF_ERROR(SendVringAddr(address));
  vrings_[address.index].address = address;
  return absl::OkStatus();
}

absl::Status Frontend::SendVringAddr(VringAddress address) {
  const bool logs = address.log != 0 && (acked_features_ & Bit(VirtioFeature::kLogAll)) != 0;
  address.flags = logs ? kVringLog : 0;
  return Do<FrontendRequest::kSetVringAddr>(address, {},
                                            logs ? Confirm::kAlways : Confirm::kIfAcked);
}

absl::Status Frontend::SetVringFd(FrontendRequest request, unsigned index, int fd,
                                  std::optional<UniqueFd> Vring::*member) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  UniqueFd copy;
  if (fd >= 0) {
    GMEM_ASSIGN_OR_RETURN(copy, UniqueFd::Duplicate(fd));
  }
  const uint64_t vring = index | (fd < 0 ? kVringNoFd : 0);
  GMEM_RETURN_IF_ERROR(CallFormat(static_cast<uint32_t>(request), *FindFormat(request),
                                  AsBytes(vring), absl::MakeConstSpan(&fd, fd < 0 ? 0 : 1),
                                  Confirm::kIfAcked, [](Message& /*reply*/) {}));
  vrings_[index].*member = std::move(copy);
  return absl::OkStatus();
}

absl::Status Frontend::SetVringKick(unsigned index, int fd) {
  return SetVringFd(FrontendRequest::kSetVringKick, index, fd, &Vring::kick);
}
absl::Status Frontend::SetVringCall(unsigned index, int fd) {
  return SetVringFd(FrontendRequest::kSetVringCall, index, fd, &Vring::call);
}
absl::Status Frontend::SetVringErr(unsigned index, int fd) {
  return SetVringFd(FrontendRequest::kSetVringErr, index, fd, &Vring::err);
}

absl::Status Frontend::SetVringEnable(unsigned index, bool enable) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  if ((offered_features_ & Bit(VirtioFeature::kProtocolFeatures)) == 0) {
    if (enable) return absl::OkStatus();
    return CheckError(EOPNOTSUPP,
                      "this back-end can't disable a virtqueue: it has no protocol features");
  }
  // A disabled one isn't touched any more when this returns.
  GMEM_RETURN_IF_ERROR(
      Do<FrontendRequest::kSetVringEnable>({.index = index, .num = enable ? 1u : 0u}, {},
                                           enable ? Confirm::kIfAcked : Confirm::kAlways));
  vrings_[index].enabled = enable;
  return absl::OkStatus();
}

absl::Status Frontend::SetVringEndian(unsigned index, bool big_endian) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kCrossEndian, "SET_VRING_ENDIAN"));
  GMEM_RETURN_IF_ERROR(
      Do<FrontendRequest::kSetVringEndian>({.index = index, .num = big_endian ? 1u : 0u}));
  vrings_[index].big_endian = big_endian;
  return absl::OkStatus();
}

absl::Status Frontend::StartVring(unsigned index, const VringSetup& setup) {
  const Deadline deadline(*this);
  VringAddress address = setup.address;
  address.index = index;
  GMEM_RETURN_IF_ERROR(SetVringNum(index, setup.size));
  GMEM_RETURN_IF_ERROR(SetVringBase(index, setup.base));
  GMEM_RETURN_IF_ERROR(SetVringAddr(address));
  if (setup.err_fd >= 0) GMEM_RETURN_IF_ERROR(SetVringErr(index, setup.err_fd));
  GMEM_RETURN_IF_ERROR(SetVringCall(index, setup.call_fd));
  // The kick starts it: all else is there by then.
  GMEM_RETURN_IF_ERROR(SetVringKick(index, setup.kick_fd));
  return setup.enable ? SetVringEnable(index, true) : absl::OkStatus();
}

absl::StatusOr<uint32_t> Frontend::GetVringBase(unsigned index) {
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_ASSIGN_OR_RETURN(const VringState state,
                        Call<FrontendRequest::kGetVringBase>({.index = index, .num = 0}));
  // It has stopped, whatever it says.
  vrings_.erase(index);
  RemoveNotifier(index).IgnoreError();
  if (state.index != index) {
    return CheckError(EIO, absl::StrCat("asked for the base of virtqueue ", index,
                                        ", the back-end gave that of ", state.index));
  }
  return state.num;
}

absl::Status Frontend::Kick(unsigned index) {
  const auto vring = vrings_.find(index);
  if (vring != vrings_.end() && vring->second.kick && vring->second.kick->is_valid()) {
    // The back-end may have filled it, and made it blocking. Full says the same.
    pollfd kick = {.fd = vring->second.kick->get(), .events = POLLOUT, .revents = 0};
    if (poll(&kick, 1, 0) == 0) return absl::OkStatus();
    constexpr uint64_t kOne = 1;
    if (write(kick.fd, &kOne, sizeof(kOne)) == sizeof(kOne) || errno == EAGAIN) {
      return absl::OkStatus();
    }
    return internal::ErrnoError(errno, absl::StrCat("can't kick virtqueue ", index));
  }
  GMEM_RETURN_IF_ERROR(CheckIndex(index));
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kInbandNotifications, "a kick without a descriptor"));
  if (main_->is_full()) {
    return CheckError(ENOMEM, absl::StrCat("the kick of virtqueue ", index, " isn't sent: ",
                                           Requester::kMaxQueued, " requests wait already"));
  }
  Start<FrontendRequest::kVringKick>(
      {.index = index, .num = 0}, {}, [](const absl::StatusOr<Message*>& /*sent*/) {},
      /*want_ack=*/false);
  return status();
}

uint32_t Frontend::ResumeBase(const Vring& vring) const {
  const uint32_t last = vring.base.value_or(0);
  // Addresses of these kinds aren't in the table, or say nothing.
  constexpr uint64_t kOpaque = Bit(VirtioFeature::kRingPacked) | Bit(VirtioFeature::kIommuPlatform);
  if ((acked_features_ & kOpaque) != 0 || !vring.address) return last;
  return ReadShared(memory_, vring.address->used + kUsedIndexOffset,
                    Has(ProtocolFeature::kGpaAddresses) ? &MemoryRegion::guest_address
                                                        : &MemoryRegion::user_address)
      .value_or(static_cast<uint16_t>(last));
}

absl::Status Frontend::ResumeVring(unsigned index, const Vring& vring) {
  if (vring.big_endian) GMEM_RETURN_IF_ERROR(SetVringEndian(index, *vring.big_endian));
  if (vring.size) GMEM_RETURN_IF_ERROR(SetVringNum(index, *vring.size));
  if (vring.base) GMEM_RETURN_IF_ERROR(SetVringBase(index, ResumeBase(vring)));
  if (vring.address) GMEM_RETURN_IF_ERROR(SetVringAddr(*vring.address));
  if (vring.err) GMEM_RETURN_IF_ERROR(SetVringErr(index, vring.err->get()));
  if (vring.call) GMEM_RETURN_IF_ERROR(SetVringCall(index, vring.call->get()));
  if (vring.kick) GMEM_RETURN_IF_ERROR(SetVringKick(index, vring.kick->get()));
  if (vring.enabled) GMEM_RETURN_IF_ERROR(SetVringEnable(index, *vring.enabled));
  // The driver has told of its buffers before, and may have been asked not to.
  return vring.kick && vring.kick->is_valid() ? Kick(index) : absl::OkStatus();
}

}  // namespace gmem::vhost
