// SPDX-License-Identifier: MIT OR Apache-2.0
// The vhost-user wire format: numbers, layouts and limits. They follow the specification in QEMU
// 11.1 (docs/interop/vhost-user.rst). All numbers are in the machine's byte order. Older documents
// say "master" for front-end and "slave" for back-end.
#ifndef GMEM_VHOST_PROTOCOL_H_
#define GMEM_VHOST_PROTOCOL_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace gmem::vhost {

/// Requests from the front-end to the back-end, on the main channel.
enum class FrontendRequest : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetLogBase = 6,
  kSetLogFd = 7,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kSendRarp = 19,
  kNetSetMtu = 20,
  kSetBackendReqFd = 21,
  kIotlbMsg = 22,
  kSetVringEndian = 23,
  kGetConfig = 24,
  kSetConfig = 25,
  kCreateCryptoSession = 26,
  kCloseCryptoSession = 27,
  kPostcopyAdvise = 28,
  kPostcopyListen = 29,
  kPostcopyEnd = 30,
  kGetInflightFd = 31,
  kSetInflightFd = 32,
  kGpuSetSocket = 33,
  kResetDevice = 34,
  kVringKick = 35,
  kGetMaxMemSlots = 36,
  kAddMemReg = 37,
  kRemMemReg = 38,
  kSetStatus = 39,
  kGetStatus = 40,
  kGetSharedObject = 41,
  kSetDeviceStateFd = 42,
  kCheckDeviceState = 43,
  kGetShmemConfig = 44,
};

/// Requests from the back-end to the front-end, on the back-end channel.
enum class BackendRequest : uint32_t {
  kIotlbMsg = 1,
  kConfigChangeMsg = 2,
  kVringHostNotifierMsg = 3,
  kVringCall = 4,
  kVringErr = 5,
  kSharedObjectAdd = 6,
  kSharedObjectRemove = 7,
  kSharedObjectLookup = 8,
  kShmemMap = 9,
  kShmemUnmap = 10,
};

/// Bit numbers of the protocol features.
enum class ProtocolFeature : unsigned {
  kMq = 0,
  kLogShmfd = 1,
  kRarp = 2,
  kReplyAck = 3,
  kNetMtu = 4,
  kBackendReq = 5,
  kCrossEndian = 6,
  kCryptoSession = 7,
  kPagefault = 8,
  kConfig = 9,
  kBackendSendFd = 10,
  kHostNotifier = 11,
  kInflightShmfd = 12,
  kResetDevice = 13,
  kInbandNotifications = 14,
  kConfigureMemSlots = 15,
  kStatus = 16,
  kXenMmap = 17,
  kSharedObject = 18,
  kDeviceState = 19,
  kGetVringBaseInflight = 20,
  kGpaAddresses = 21,
  kShmemMap = 22,
};

/// Bit numbers of the virtio features that the protocol itself uses.
enum class VirtioFeature : unsigned {
  kLogAll = 26,
  kIndirectDesc = 28,
  kEventIdx = 29,
  /// Not a virtio feature: enables the protocol features.
  kProtocolFeatures = 30,
  kVersion1 = 32,
  kIommuPlatform = 33,
  kRingPacked = 34,
};

constexpr uint64_t Bit(ProtocolFeature feature) {
  return uint64_t{1} << static_cast<unsigned>(feature);
}
constexpr uint64_t Bit(VirtioFeature feature) {
  return uint64_t{1} << static_cast<unsigned>(feature);
}

/// Limits. Both ends refuse a message that exceeds one of them.
///
/// Descriptors with one message.
inline constexpr size_t kMaxFds = 8;
/// Regions in one kSetMemTable.
inline constexpr size_t kMaxTableRegions = 8;
/// Regions that the front-end adds one by one; the kernel's vhost has the same limit.
inline constexpr size_t kMaxMemorySlots = 509;
/// Bytes of a device's configuration space.
inline constexpr size_t kMaxConfigSize = 256;
/// Shared memory regions of a device.
inline constexpr size_t kMaxShmemRegions = 256;
/// Virtqueues: their index has eight bits in kSetVringKick.
inline constexpr size_t kMaxQueues = 256;
/// Entries of a virtqueue (virtio 1.3, 2.7 and 2.8).
inline constexpr uint32_t kMaxQueueSize = 32768;

/// Message header. `size` bytes of payload follow. Descriptors come with the header's first byte.
struct MessageHeader {
  uint32_t request;
  uint32_t flags;
  uint32_t size;
};

inline constexpr uint32_t kVersionMask = 0x3;
inline constexpr uint32_t kVersion = 0x1;
inline constexpr uint32_t kFlagReply = 0x4;
inline constexpr uint32_t kFlagNeedReply = 0x8;

struct VringState {
  uint32_t index;
  uint32_t num;
};

/// VringAddress::flags.
inline constexpr uint32_t kVringLog = 0x1;

/// The addresses are user addresses of the front-end; with VirtioFeature::kIommuPlatform, I/O
/// virtual addresses; with ProtocolFeature::kGpaAddresses, guest addresses.
struct VringAddress {
  uint32_t index;
  uint32_t flags;
  uint64_t descriptor;
  uint64_t used;
  uint64_t available;
  /// Always a guest address.
  uint64_t log;
};

/// For kSetVringKick, kSetVringCall and kSetVringErr: the low bits of the payload are the
/// virtqueue's index, and kVringNoFd says that the message has no descriptor.
inline constexpr uint64_t kVringIndexMask = 0xff;
inline constexpr uint64_t kVringNoFd = 0x100;

struct MemoryRegion {
  uint64_t guest_address;
  uint64_t size;
  uint64_t user_address;
  /// Where the region begins in its file, in bytes.
  uint64_t mmap_offset;

  friend bool operator==(const MemoryRegion& a, const MemoryRegion& b) = default;
};

/// Only the first nr_regions regions are sent.
struct MemoryTable {
  uint32_t nr_regions;
  uint32_t padding;
  std::array<MemoryRegion, kMaxTableRegions> regions;
};

struct SingleMemoryRegion {
  uint64_t padding;
  MemoryRegion region;
};

/// The log has one bit for each page of this size, from guest address 0 on.
inline constexpr uint64_t kLogPageSize = 4096;

struct LogArea {
  uint64_t mmap_size;
  uint64_t mmap_offset;
};

enum class IotlbType : uint8_t { kMiss = 1, kUpdate = 2, kInvalidate = 3, kAccessFail = 4 };
inline constexpr uint8_t kIotlbRead = 0x1;
inline constexpr uint8_t kIotlbWrite = 0x2;

struct IotlbMessage {
  uint64_t iova;
  uint64_t size;
  uint64_t user_address;
  uint8_t permissions;
  IotlbType type;
  std::array<uint8_t, 6> padding;
};

/// ConfigSpace::flags: why the front-end writes.
inline constexpr uint32_t kConfigWritable = 0;
inline constexpr uint32_t kConfigMigration = 1;

/// Only the first `size` bytes are sent. A reply of size 0, or without any payload, means an error.
struct ConfigSpace {
  uint32_t offset;
  uint32_t size;
  uint32_t flags;
  std::array<uint8_t, kMaxConfigSize> bytes;
};

/// The request of a virtio crypto driver (virtio 1.3, 5.9.7.2). The pointers are addresses of the
/// sender and mean nothing to the receiver; the keys follow.
struct SymmetricSession {
  uint32_t cipher_algorithm;
  uint32_t key_length;
  uint32_t hash_algorithm;
  uint32_t hash_result_length;
  uint32_t auth_key_length;
  uint32_t additional_length;
  uint8_t operation;
  uint8_t direction;
  uint8_t hash_mode;
  uint8_t chain_order;
  uint32_t padding;
  uint64_t key_pointer;
  uint64_t auth_key_pointer;
  std::array<uint8_t, 64> key;
  std::array<uint8_t, 512> auth_key;
};

struct AsymmetricSession {
  uint32_t algorithm;
  uint32_t key_type;
  uint32_t key_length;
  uint32_t padding;
  uint64_t key_pointer;
  uint32_t rsa_hash_algorithm;
  uint32_t rsa_padding_algorithm;
  std::array<uint8_t, 1024> key;
};

struct CryptoSession {
  /// VIRTIO_CRYPTO_*_CREATE_SESSION: selects the member of the union.
  uint64_t operation;
  union {
    SymmetricSession symmetric;
    AsymmetricSession asymmetric;
  };
  /// In the reply; negative if the back-end made no session.
  int64_t session_id;
};

/// The place of a virtqueue's doorbell in the file that comes with the message.
struct VringArea {
  /// As in kSetVringKick.
  uint64_t vring;
  uint64_t size;
  uint64_t offset;
};

/// The protocol's 20 bytes, and the four bytes of padding that compilers add. Peers send both
/// sizes; this library sends all 24 bytes.
struct InflightArea {
  uint64_t mmap_size;
  uint64_t mmap_offset;
  uint16_t nr_queues;
  uint16_t queue_size;
  uint32_t padding;
};
inline constexpr size_t kMinInflightSize = 20;

enum class TransferDirection : uint32_t { kSave = 0, kLoad = 1 };
enum class TransferPhase : uint32_t { kStopped = 0 };

struct DeviceStateTransfer {
  TransferDirection direction;
  TransferPhase phase;
};

/// For replies with an optional descriptor: this bit says that there is none. The low bits, if not
/// 0, say that the request failed.
inline constexpr uint64_t kReplyNoFd = 0x100;

/// The index in sizes is the shmid; size 0 means that the region doesn't exist. nr_regions is the
/// number of sizes that aren't 0.
struct ShmemConfig {
  uint32_t nr_regions;
  uint32_t padding;
  std::array<uint64_t, kMaxShmemRegions> sizes;
};

/// ShmemMapping::flags: a mapping without this flag is read-only.
inline constexpr uint64_t kShmemMapRw = 0x1;

struct ShmemMapping {
  uint8_t shmid;
  std::array<uint8_t, 7> padding;
  uint64_t fd_offset;
  uint64_t shm_offset;
  uint64_t len;
  uint64_t flags;
};

using Uuid = std::array<uint8_t, 16>;

/// Bits of the device status (virtio 1.3, 2.1).
enum class DeviceStatus : uint8_t {
  kAcknowledge = 1,
  kDriver = 2,
  kDriverOk = 4,
  kFeaturesOk = 8,
  kNeedsReset = 64,
  kFailed = 128,
};

static_assert(sizeof(MessageHeader) == 12);
static_assert(sizeof(VringState) == 8);
static_assert(sizeof(VringAddress) == 40);
static_assert(sizeof(MemoryRegion) == 32);
static_assert(sizeof(MemoryTable) == 8 + 32 * kMaxTableRegions);
static_assert(sizeof(SingleMemoryRegion) == 40);
static_assert(sizeof(LogArea) == 16);
static_assert(sizeof(IotlbMessage) == 32);
static_assert(sizeof(ConfigSpace) == 12 + kMaxConfigSize);
static_assert(sizeof(SymmetricSession) == 48 + 64 + 512);
static_assert(sizeof(AsymmetricSession) == 32 + 1024);
static_assert(sizeof(CryptoSession) == 16 + sizeof(AsymmetricSession));
static_assert(sizeof(VringArea) == 24);
static_assert(sizeof(InflightArea) == 24);
static_assert(sizeof(DeviceStateTransfer) == 8);
static_assert(sizeof(ShmemConfig) == 8 + 8 * kMaxShmemRegions);
static_assert(sizeof(ShmemMapping) == 40);
static_assert(sizeof(Uuid) == 16);

/// The size of the largest payload, in bytes.
inline constexpr size_t kMaxPayloadSize = sizeof(ShmemConfig);

/// The specification's name without its prefix ("SET_MEM_TABLE"); "unknown" for a number that no
/// request has.
absl::string_view Name(FrontendRequest request);
absl::string_view Name(BackendRequest request);

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_PROTOCOL_H_
