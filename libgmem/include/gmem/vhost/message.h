// SPDX-License-Identifier: MIT OR Apache-2.0
// Every message of the protocol with its types: its payload, its reply, and functions that convert
// both to bytes and back. Nothing here allocates.
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

/// Owns the descriptors that came with a message.
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

  /// Descriptor @p i, which the list still owns; -1 if there is none.
  int get(size_t i) const { return Has(i) ? fds_[i].get() : -1; }
  /// Moves descriptor @p i to the caller. Returns an empty UniqueFd if there is none, or if it was
  /// taken before.
  UniqueFd Take(size_t i) { return Has(i) ? std::move(fds_[i]) : UniqueFd(); }

  /// False if the list is full; @p fd is closed then.
  bool Add(UniqueFd fd) {
    if (size_ == kMaxFds) return false;
    fds_[size_++] = std::move(fd);
    return true;
  }

  /// Closes all descriptors.
  void Clear() {
    for (size_t i = 0; Has(i); i++) fds_[i].reset();
    size_ = 0;
  }

 private:
  // The second bound follows from the first, but gcc 14 can't see that, and warns.
  bool Has(size_t i) const { return i < size_ && i < kMaxFds; }

  std::array<UniqueFd, kMaxFds> fds_;
  size_t size_ = 0;
};

/// A received message, or one to send. Large (2 KiB): reuse one object.
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

/// Stands for the payload of a message that has none.
struct Empty {};

/// The size of a payload on the wire, in bytes.
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

/// The whole of @p payload as bytes to write to. Ignores WireSize(): a sender may leave bytes out.
template <typename Payload>
absl::Span<uint8_t> AsWritableBytes(Payload& payload) {
  static_assert(std::is_trivially_copyable_v<Payload>);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): plain bytes are meant.
  return {reinterpret_cast<uint8_t*>(&payload), std::is_empty_v<Payload> ? 0 : sizeof(payload)};
}

/// Converts @p bytes to a payload; missing bytes become 0. Call CheckFrontendRequest(),
/// CheckBackendRequest() or CheckReply() first, which check the size.
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

/// The form of a request on the wire, for the checks of incoming messages. Sizes in bytes.
struct Format {
  absl::string_view name;
  uint16_t min_size = 0;
  uint16_t max_size = 0;
  uint8_t min_fds = 0;
  uint8_t max_fds = 0;
  /// Does the request have a reply of its own? For any other request, the receiver sends a u64 as
  /// acknowledgement, if the sender asks for it and ProtocolFeature::kReplyAck is negotiated.
  bool has_reply = false;
  uint16_t min_reply_size = 0;
  uint16_t max_reply_size = 0;
  uint8_t max_reply_fds = 0;
};

/// Returns null if no request has that number.
const Format* FindFormat(FrontendRequest request);
const Format* FindFormat(BackendRequest request);

/// Is this a well-formed request? Checks the header, the sizes, the counts inside the payload, and
/// the number of descriptors, so that the handler need not. Unimplemented (EOPNOTSUPP) for an
/// unknown request, InvalidArgument (EINVAL) for a malformed one.
absl::Status CheckFrontendRequest(const Message& message);
absl::Status CheckBackendRequest(const Message& message);

/// Is this the reply to @p request, whose format is @p format? An acknowledgement (@p is_ack) is a
/// u64. DataLoss (EBADMSG) if it isn't the reply.
absl::Status CheckReply(const Message& message, uint32_t request, const Format& format,
                        bool is_ack);

/// The types of a request's payload and reply; Empty if there is none.
template <auto kRequest>
struct RequestTraits {
  using Payload = Empty;
  using Reply = Empty;
};

// One line per request: request, payload, reply.
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
