// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/message.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

template <typename Payload>
inline constexpr uint16_t kSize = sizeof(Payload);
inline constexpr uint16_t kU64 = 8;

// One line per request: its payload and its reply. The receiver at most acknowledges a request
// without a reply of its own.
constexpr Format Request(absl::string_view name, uint16_t size = 0, uint8_t min_fds = 0,
                         uint8_t max_fds = 0) {
  return {.name = name, .min_size = size, .max_size = size, .min_fds = min_fds, .max_fds = max_fds};
}

constexpr Format Ask(absl::string_view name, uint16_t size, uint16_t reply_size,
                     uint8_t max_reply_fds = 0) {
  return {.name = name,
          .min_size = size,
          .max_size = size,
          .has_reply = true,
          .min_reply_size = reply_size,
          .max_reply_size = reply_size,
          .max_reply_fds = max_reply_fds};
}

constexpr Format WithSizes(Format format, uint16_t min_size, uint16_t max_size) {
  format.min_size = min_size;
  format.max_size = max_size;
  return format;
}

constexpr Format WithReplySizes(Format format, uint16_t min_size, uint16_t max_size) {
  format.has_reply = true;
  format.min_reply_size = min_size;
  format.max_reply_size = max_size;
  return format;
}

constexpr uint16_t kConfigHeader = offsetof(ConfigSpace, bytes);
constexpr uint16_t kTableHeader = offsetof(MemoryTable, regions);

// In the order of the numbers. An entry without a name is no request.
constexpr Format kFrontendFormats[] = {
    {},
    Ask("GET_FEATURES", 0, kU64),
    Request("SET_FEATURES", kU64),
    Request("SET_OWNER"),
    Request("RESET_OWNER"),
    WithSizes(Request("SET_MEM_TABLE", 0, 0, kMaxTableRegions), kTableHeader, kSize<MemoryTable>),
    // By the specification the reply is empty. libvhost-user sends a u64; rust-vmm and this library
    // send the request's payload.
    WithReplySizes(Request("SET_LOG_BASE", kSize<LogArea>, 1, 1), 0, kSize<LogArea>),
    Request("SET_LOG_FD", 0, 0, 1),
    Request("SET_VRING_NUM", kSize<VringState>),
    Request("SET_VRING_ADDR", kSize<VringAddress>),
    Request("SET_VRING_BASE", kSize<VringState>),
    Ask("GET_VRING_BASE", kSize<VringState>, kSize<VringState>),
    Request("SET_VRING_KICK", kU64, 0, 1),
    Request("SET_VRING_CALL", kU64, 0, 1),
    Request("SET_VRING_ERR", kU64, 0, 1),
    Ask("GET_PROTOCOL_FEATURES", 0, kU64),
    Request("SET_PROTOCOL_FEATURES", kU64),
    Ask("GET_QUEUE_NUM", 0, kU64),
    Request("SET_VRING_ENABLE", kSize<VringState>),
    Request("SEND_RARP", kU64),
    Request("NET_SET_MTU", kU64),
    Request("SET_BACKEND_REQ_FD", 0, 1, 1),
    Request("IOTLB_MSG", kSize<IotlbMessage>),
    Request("SET_VRING_ENDIAN", kSize<VringState>),
    // An error is an empty reply, or one of size 0: see CheckConfig().
    WithReplySizes(WithSizes(Request("GET_CONFIG"), kConfigHeader, kSize<ConfigSpace>), 0,
                   kSize<ConfigSpace>),
    WithSizes(Request("SET_CONFIG"), kConfigHeader, kSize<ConfigSpace>),
    Ask("CREATE_CRYPTO_SESSION", kSize<CryptoSession>, kSize<CryptoSession>),
    Request("CLOSE_CRYPTO_SESSION", kU64),
    Ask("POSTCOPY_ADVISE", 0, 0, 1),
    Request("POSTCOPY_LISTEN"),
    Ask("POSTCOPY_END", 0, kU64),
    WithReplySizes(
        WithSizes(Ask("GET_INFLIGHT_FD", 0, 0, 1), kMinInflightSize, kSize<InflightArea>),
        kMinInflightSize, kSize<InflightArea>),
    WithSizes(Request("SET_INFLIGHT_FD", 0, 1, 1), kMinInflightSize, kSize<InflightArea>),
    Request("GPU_SET_SOCKET", 0, 1, 1),
    Request("RESET_DEVICE"),
    Request("VRING_KICK", kSize<VringState>),
    Ask("GET_MAX_MEM_SLOTS", 0, kU64),
    // May also have the form of a u64: see CheckRegion().
    WithSizes(Request("ADD_MEM_REG", 0, 0, 1), kU64, kSize<SingleMemoryRegion>),
    // Older front-ends send the region's descriptor again.
    Request("REM_MEM_REG", kSize<SingleMemoryRegion>, 0, 1),
    Request("SET_STATUS", kU64),
    Ask("GET_STATUS", 0, kU64),
    // libvhost-user's reply echoes the UUID.
    WithReplySizes(Ask("GET_SHARED_OBJECT", kSize<Uuid>, 0, 1), 0, kSize<Uuid>),
    {.name = "SET_DEVICE_STATE_FD",
     .min_size = kSize<DeviceStateTransfer>,
     .max_size = kSize<DeviceStateTransfer>,
     .min_fds = 1,
     .max_fds = 1,
     .has_reply = true,
     .min_reply_size = kU64,
     .max_reply_size = kU64,
     .max_reply_fds = 1},
    Ask("CHECK_DEVICE_STATE", 0, kU64),
    Ask("GET_SHMEM_CONFIG", 0, kSize<ShmemConfig>),
};

constexpr Format kBackendFormats[] = {
    {},
    Request("IOTLB_MSG", kSize<IotlbMessage>),
    Request("CONFIG_CHANGE_MSG"),
    Request("VRING_HOST_NOTIFIER_MSG", kSize<VringArea>, 0, 1),
    Request("VRING_CALL", kSize<VringState>),
    Request("VRING_ERR", kSize<VringState>),
    Request("SHARED_OBJECT_ADD", kSize<Uuid>),
    Request("SHARED_OBJECT_REMOVE", kSize<Uuid>),
    Ask("SHARED_OBJECT_LOOKUP", kSize<Uuid>, kU64, 1),
    Request("SHMEM_MAP", kSize<ShmemMapping>, 1, 1),
    Request("SHMEM_UNMAP", kSize<ShmemMapping>),
};

const Format* Find(absl::Span<const Format> formats, uint32_t request) {
  if (request >= formats.size() || formats[request].name.empty()) return nullptr;
  return &formats[request];
}

absl::Status Bad(const Format& format, absl::string_view what) {
  return internal::CheckError(EINVAL, absl::StrCat(format.name, ": ", what));
}

absl::Status CheckHeader(const Message& message, const Format* format) {
  const MessageHeader& header = message.header;
  if ((header.flags & kVersionMask) != kVersion || message.is_reply()) {
    return internal::CheckError(
        EINVAL, absl::StrCat("request ", header.request, " has the flags 0x",
                             absl::Hex(header.flags), ": a request has version 1 and is no reply"));
  }
  if (format == nullptr) {
    return internal::CheckError(EOPNOTSUPP, absl::StrCat("there is no request ", header.request));
  }
  if (header.size < format->min_size || header.size > format->max_size) {
    return Bad(*format, absl::StrCat("has ", header.size, " bytes of payload, not ",
                                     format->min_size, " to ", format->max_size));
  }
  if (message.fds.size() < format->min_fds || message.fds.size() > format->max_fds) {
    return Bad(*format, absl::StrCat("comes with ", message.fds.size(), " descriptors, not ",
                                     static_cast<int>(format->min_fds), " to ",
                                     static_cast<int>(format->max_fds)));
  }
  return absl::OkStatus();
}

absl::Status CheckMemoryTable(const Message& message, const Format& format) {
  const auto table = FromBytes<MemoryTable>(message.bytes());
  if (table.nr_regions > kMaxTableRegions || message.header.size != WireSize(table)) {
    return Bad(format,
               absl::StrCat(message.header.size, " bytes of payload don't hold ", table.nr_regions,
                            " regions; at most ", kMaxTableRegions, " may come"));
  }
  if (message.fds.size() != table.nr_regions) {
    return Bad(format, absl::StrCat(table.nr_regions, " regions come with ", message.fds.size(),
                                    " descriptors"));
  }
  return absl::OkStatus();
}

// A region with its descriptor, or, during postcopy, the front-end's acknowledgement of the regions
// that it has sent.
absl::Status CheckRegion(const Message& message, const Format& format) {
  if (message.header.size == sizeof(SingleMemoryRegion) && message.fds.size() == 1) {
    return absl::OkStatus();
  }
  if (message.header.size == kU64 && message.fds.empty()) return absl::OkStatus();
  return Bad(format, absl::StrCat(message.header.size, " bytes and ", message.fds.size(),
                                  " descriptors don't form a region"));
}

// @is_reply: size 0 means an error. By the specification the whole payload is missing then;
// rust-vmm sends one without bytes of configuration.
absl::Status CheckConfig(const Message& message, const Format& format, bool is_reply) {
  const auto config = FromBytes<ConfigSpace>(message.bytes());
  const bool is_whole = message.header.size == 0 || message.header.size >= kConfigHeader;
  if (is_reply && is_whole && config.size == 0) return absl::OkStatus();
  if (config.size == 0 || config.size > kMaxConfigSize ||
      config.offset > kMaxConfigSize - config.size) {
    return Bad(format,
               absl::StrCat(config.size, " bytes from ", config.offset, " on aren't in the ",
                            kMaxConfigSize, " of a configuration space"));
  }
  if (message.header.size != WireSize(config)) {
    return Bad(format, absl::StrCat(message.header.size, " bytes of payload for ", config.size,
                                    " of configuration"));
  }
  return absl::OkStatus();
}

absl::Status CheckInflight(const Message& message, const Format& format) {
  if (message.header.size == kMinInflightSize || message.header.size == sizeof(InflightArea)) {
    return absl::OkStatus();
  }
  return Bad(format, absl::StrCat("has ", message.header.size, " bytes of payload, not ",
                                  kMinInflightSize, " or ", sizeof(InflightArea)));
}

// The index of a virtqueue, with or without a descriptor.
absl::Status CheckVringFd(const Message& message, const Format& format, uint64_t vring) {
  if ((vring & ~(kVringIndexMask | kVringNoFd)) != 0) {
    return Bad(format, absl::StrCat("0x", absl::Hex(vring), " has bits that mean nothing"));
  }
  const size_t expected = (vring & kVringNoFd) != 0 ? 0 : 1;
  if (message.fds.size() != expected) {
    return Bad(format, absl::StrCat("0x", absl::Hex(vring), " comes with ", message.fds.size(),
                                    " descriptors, not ", expected));
  }
  return absl::OkStatus();
}

}  // namespace

const Format* FindFormat(FrontendRequest request) {
  return Find(kFrontendFormats, static_cast<uint32_t>(request));
}

const Format* FindFormat(BackendRequest request) {
  return Find(kBackendFormats, static_cast<uint32_t>(request));
}

absl::string_view Name(FrontendRequest request) {
  const Format* const format = FindFormat(request);
  return format == nullptr ? "unknown" : format->name;
}

absl::string_view Name(BackendRequest request) {
  const Format* const format = FindFormat(request);
  return format == nullptr ? "unknown" : format->name;
}

absl::Status CheckFrontendRequest(const Message& message) {
  const auto request = static_cast<FrontendRequest>(message.header.request);
  const Format* const format = FindFormat(request);
  GMEM_RETURN_IF_ERROR(CheckHeader(message, format));
  switch (request) {
    case FrontendRequest::kSetMemTable:
      return CheckMemoryTable(message, *format);
    case FrontendRequest::kAddMemReg:
      return CheckRegion(message, *format);
    case FrontendRequest::kGetConfig:
    case FrontendRequest::kSetConfig:
      return CheckConfig(message, *format, /*is_reply=*/false);
    case FrontendRequest::kGetInflightFd:
    case FrontendRequest::kSetInflightFd:
      return CheckInflight(message, *format);
    case FrontendRequest::kSetVringKick:
    case FrontendRequest::kSetVringCall:
    case FrontendRequest::kSetVringErr:
      return CheckVringFd(message, *format, FromBytes<uint64_t>(message.bytes()));
    default:
      return absl::OkStatus();
  }
}

absl::Status CheckBackendRequest(const Message& message) {
  const auto request = static_cast<BackendRequest>(message.header.request);
  const Format* const format = FindFormat(request);
  GMEM_RETURN_IF_ERROR(CheckHeader(message, format));
  if (request == BackendRequest::kVringHostNotifierMsg) {
    return CheckVringFd(message, *format, FromBytes<VringArea>(message.bytes()).vring);
  }
  return absl::OkStatus();
}

absl::Status CheckReply(const Message& message, uint32_t request, const Format& format,
                        bool is_ack) {
  const MessageHeader& header = message.header;
  // qemu-storage-daemon copies kFlagNeedReply from the request.
  if (header.request != request || (header.flags & ~kFlagNeedReply) != (kVersion | kFlagReply)) {
    return internal::CheckError(
        EBADMSG, absl::StrCat("message ", header.request, " with the flags 0x",
                              absl::Hex(header.flags), " isn't the reply to ", format.name));
  }
  const uint32_t min_size = is_ack ? kU64 : format.min_reply_size;
  const uint32_t max_size = is_ack ? kU64 : format.max_reply_size;
  const size_t max_fds = is_ack ? 0 : format.max_reply_fds;
  if (header.size < min_size || header.size > max_size || message.fds.size() > max_fds) {
    return internal::CheckError(
        EBADMSG, absl::StrCat("the reply to ", format.name, " has ", header.size, " bytes and ",
                              message.fds.size(), " descriptors, not ", min_size, " to ", max_size,
                              " and at most ", max_fds));
  }
  if (!is_ack && header.request == static_cast<uint32_t>(FrontendRequest::kGetConfig) &&
      format.max_reply_size == kSize<ConfigSpace>) {
    const absl::Status status = CheckConfig(message, format, /*is_reply=*/true);
    if (!status.ok()) return internal::CheckError(EBADMSG, status.message());
  }
  return absl::OkStatus();
}

}  // namespace gmem::vhost
