// SPDX-License-Identifier: Apache-2.0
// Every message of the protocol, typed: what it carries, what answers it, and how to
// turn either into bytes and back. Nothing here allocates.
#ifndef GMEM_VHOST_MESSAGE_H_
#define GMEM_VHOST_MESSAGE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The descriptors that came with a message, owned.
///
/// Thread-compatible.
class FdList {
 public:
  FdList() = default;
  FdList(FdList&& other) noexcept
      : fds_(std::move(other.fds_)), size_(std::exchange(other.size_, 0)) {}
  FdList& operator=(FdList&& other) noexcept {
    fds_ = std::move(other.fds_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  /// Still owned; -1 if there is no such one.
  int get(size_t i) const { return i < size_ ? fds_[i].get() : -1; }
  /// Takes one out; owns nothing if there is no such one, or it is taken already.
  UniqueFd Take(size_t i) { return i < size_ ? std::move(fds_[i]) : UniqueFd(); }

  /// False, and @p fd is closed, if there is no room.
  bool Add(UniqueFd fd) {
    if (size_ == kMaxFds) return false;
    fds_[size_++] = std::move(fd);
    return true;
  }

  /// Closes all.
  void Clear() {
    for (size_t i = 0; i < size_; i++) fds_[i].reset();
    size_ = 0;
  }

 private:
  std::array<UniqueFd, kMaxFds> fds_;
  size_t size_ = 0;
};

/// A message as it came, or as it goes. Large (2 KiB): keep one and use it again.
struct Message {
  MessageHeader header = {};
  alignas(8) std::array<uint8_t, kMaxPayloadSize> payload;
  FdList fds;

  absl::Span<const uint8_t> bytes() const {
    return {payload.data(), std::min<size_t>(header.size, payload.size())};
  }
  bool is_reply() const { return (header.flags & kFlagReply) != 0; }
  bool needs_reply() const { return (header.flags & kFlagNeedReply) != 0; }
};

/// In the place of a payload: there is none.
struct Empty {};

/// How many bytes of a payload are sent.
template <typename Payload>
constexpr size_t WireSize(const Payload&) {
  static_assert(std::is_trivially_copyable_v<Payload>);
  return std::is_empty_v<Payload> ? 0 : sizeof(Payload);
}
inline size_t WireSize(const MemoryTable& table) {
  return offsetof(MemoryTable, regions) +
         std::min<size_t>(table.nr_regions, kMaxTableRegions) * sizeof(MemoryRegion);
}
inline size_t WireSize(const ConfigSpace& config) {
  return offsetof(ConfigSpace, bytes) + std::min<size_t>(config.size, kMaxConfigSize);
}

template <typename Payload>
absl::Span<const uint8_t> AsBytes(const Payload& payload) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): plain bytes are meant.
  return {reinterpret_cast<const uint8_t*>(&payload), WireSize(payload)};
}

/// The payload that @p bytes are; whatever isn't there is 0. CheckRequest() or
/// CheckReply() said that the size is right.
template <typename Payload>
Payload FromBytes(absl::Span<const uint8_t> bytes) {
  static_assert(std::is_trivially_copyable_v<Payload>);
  Payload payload = {};
  if constexpr (!std::is_empty_v<Payload>) {
    std::memcpy(static_cast<void*>(&payload), bytes.data(),
                std::min(bytes.size(), sizeof(payload)));
  }
  return payload;
}

/// What a request looks like on the wire, for the checks at the edge. Sizes in bytes.
struct Format {
  absl::string_view name;
  uint16_t min_size = 0;
  uint16_t max_size = 0;
  uint8_t min_fds = 0;
  uint8_t max_fds = 0;
  /// Does it have a reply of its own? Others are acknowledged by a u64, if the sender
  /// asks, and ProtocolFeature::kReplyAck is negotiated.
  bool has_reply = false;
  uint16_t min_reply_size = 0;
  uint16_t max_reply_size = 0;
  uint8_t max_reply_fds = 0;
};

/// Null for a number that no request has.
const Format* FindFormat(FrontendRequest request);
const Format* FindFormat(BackendRequest request);

/// Is this a well-formed request? Checks header, sizes, counts inside of the payload,
/// and descriptors, so that who handles it need not. Unimplemented (EOPNOTSUPP) for an
/// unknown one, InvalidArgument (EINVAL) for a bad one.
absl::Status CheckFrontendRequest(const Message& message);
absl::Status CheckBackendRequest(const Message& message);

/// Is this the reply to @p request, which has the format @p format? An acknowledgement
/// (@p is_ack) is a u64. DataLoss (EBADMSG) if not.
absl::Status CheckReply(const Message& message, uint32_t request, const Format& format,
                        bool is_ack);

/// The type of what a request carries, and of what answers it; Empty if nothing.
template <auto kRequest>
struct RequestTraits {
  using Payload = Empty;
  using Reply = Empty;
};

// One line each: request, payload, reply.
#define GMEM_VHOST_TYPED(kRequest, PayloadType, ReplyType) \
  template <>                                              \
  struct RequestTraits<kRequest> {                         \
    using Payload = PayloadType;                           \
    using Reply = ReplyType;                               \
  }

GMEM_VHOST_TYPED(FrontendRequest::kGetFeatures, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kSetFeatures, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetMemTable, MemoryTable, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetLogBase, LogArea, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringNum, VringState, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringAddr, VringAddress, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringBase, VringState, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetVringBase, VringState, VringState);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringKick, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringCall, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringErr, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetProtocolFeatures, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kSetProtocolFeatures, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetQueueNum, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringEnable, VringState, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSendRarp, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kNetSetMtu, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kIotlbMsg, IotlbMessage, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetVringEndian, VringState, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetConfig, ConfigSpace, ConfigSpace);
GMEM_VHOST_TYPED(FrontendRequest::kSetConfig, ConfigSpace, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kCreateCryptoSession, CryptoSession, CryptoSession);
GMEM_VHOST_TYPED(FrontendRequest::kCloseCryptoSession, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kPostcopyEnd, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kGetInflightFd, InflightArea, InflightArea);
GMEM_VHOST_TYPED(FrontendRequest::kSetInflightFd, InflightArea, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kVringKick, VringState, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetMaxMemSlots, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kAddMemReg, SingleMemoryRegion, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kRemMemReg, SingleMemoryRegion, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetStatus, uint64_t, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kGetStatus, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kGetSharedObject, Uuid, Empty);
GMEM_VHOST_TYPED(FrontendRequest::kSetDeviceStateFd, DeviceStateTransfer, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kCheckDeviceState, Empty, uint64_t);
GMEM_VHOST_TYPED(FrontendRequest::kGetShmemConfig, Empty, ShmemConfig);

GMEM_VHOST_TYPED(BackendRequest::kIotlbMsg, IotlbMessage, Empty);
GMEM_VHOST_TYPED(BackendRequest::kVringHostNotifierMsg, VringArea, Empty);
GMEM_VHOST_TYPED(BackendRequest::kVringCall, VringState, Empty);
GMEM_VHOST_TYPED(BackendRequest::kVringErr, VringState, Empty);
GMEM_VHOST_TYPED(BackendRequest::kSharedObjectAdd, Uuid, Empty);
GMEM_VHOST_TYPED(BackendRequest::kSharedObjectRemove, Uuid, Empty);
GMEM_VHOST_TYPED(BackendRequest::kSharedObjectLookup, Uuid, uint64_t);
GMEM_VHOST_TYPED(BackendRequest::kShmemMap, ShmemMapping, Empty);
GMEM_VHOST_TYPED(BackendRequest::kShmemUnmap, ShmemMapping, Empty);

#undef GMEM_VHOST_TYPED

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_MESSAGE_H_
