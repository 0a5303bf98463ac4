// SPDX-License-Identifier: MIT OR Apache-2.0
// Writes the inputs that the fuzzers start from: "fuzz_seeds DIR" makes DIR/frontend, DIR/backend
// and DIR/virtqueue.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/fuzz/records.h"

namespace gmem::vhost {
namespace {

constexpr uint64_t kPage = 0x1000;

std::string Record(absl::Span<const uint8_t> bytes, uint8_t control) {
  const doubles::RecordHeader header = {
      .control = control, .padding = 0, .size = static_cast<uint16_t>(bytes.size())};
  std::string record(sizeof(header), '\0');
  std::memcpy(record.data(), &header, sizeof(header));
  return record.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

template <typename Payload>
std::string Reply(const Payload& payload, uint8_t nr_fds = 0) {
  return Record(AsBytes(payload), 0x40 | nr_fds);
}

template <typename Request, typename Payload>
std::string Message(Request request, const Payload& payload, uint8_t control = 0) {
  const absl::Span<const uint8_t> bytes = AsBytes(payload);
  const MessageHeader header = {.request = static_cast<uint32_t>(request),
                                .flags = kVersion | kFlagNeedReply,
                                .size = static_cast<uint32_t>(bytes.size())};
  std::string message(sizeof(header) + bytes.size(), '\0');
  std::memcpy(message.data(), &header, sizeof(header));
  std::memcpy(message.data() + sizeof(header), bytes.data(), bytes.size());
  return Record({reinterpret_cast<const uint8_t*>(message.data()), message.size()}, control);
}

// Every request that a back-end may send.
std::string AllBackendRequests() {
  constexpr uint8_t kChannel = 0x80;
  ShmemMapping mapping = {.shmid = 1,
                          .padding = {},
                          .fd_offset = 0,
                          .shm_offset = 0,
                          .len = kPage,
                          .flags = kShmemMapRw};
  std::string all = Message(BackendRequest::kShmemMap, mapping, kChannel | 1);
  mapping.shm_offset = 2 * kPage;
  mapping.flags = 0;
  absl::StrAppend(&all, Message(BackendRequest::kShmemMap, mapping, kChannel | 1),
                  Message(BackendRequest::kShmemMap, mapping, kChannel | 1),
                  Message(BackendRequest::kShmemUnmap, mapping, kChannel),
                  Message(BackendRequest::kConfigChangeMsg, Empty(), kChannel));
  const IotlbMessage miss = {.iova = kPage,
                             .size = 0,
                             .user_address = 0,
                             .permissions = kIotlbRead,
                             .type = IotlbType::kMiss,
                             .padding = {}};
  const VringArea area = {.vring = 0, .size = kPage, .offset = 0};
  const Uuid uuid = {1, 2, 3};
  absl::StrAppend(&all, Message(BackendRequest::kIotlbMsg, miss, kChannel),
                  Message(BackendRequest::kVringHostNotifierMsg, area, kChannel | 1),
                  Message(BackendRequest::kVringCall, VringState{.index = 0, .num = 0}, kChannel),
                  Message(BackendRequest::kVringErr, VringState{.index = 0, .num = 0}, kChannel),
                  Message(BackendRequest::kSharedObjectAdd, uuid, kChannel),
                  Message(BackendRequest::kSharedObjectLookup, uuid, kChannel),
                  Message(BackendRequest::kSharedObjectRemove, uuid, kChannel));
  return all;
}

// A back-end's part of a conversation. The first replies are numbers, the next one is a shared
// memory configuration, and the rest are of every kind.
std::string Conversation(int numbers_first, uint64_t features) {
  std::string all;
  for (int i = 0; i < numbers_first; i++) absl::StrAppend(&all, Reply(features));
  ShmemConfig shmem = {};
  shmem.nr_regions = 1;
  shmem.sizes[1] = 16 * kPage;
  ConfigSpace config = {};
  config.size = 16;
  const InflightArea inflight = {
      .mmap_size = kPage, .mmap_offset = 0, .nr_queues = 1, .queue_size = 16, .padding = 0};
  absl::StrAppend(&all, Reply(shmem), AllBackendRequests(), Reply(config), Reply(inflight, 1),
                  AllBackendRequests(), Reply(kReplyNoFd), Reply(uint64_t{0}),
                  Reply(VringState{.index = 0, .num = 7}));
  return all;
}

template <FrontendRequest kRequest>
std::string Ask(const typename RequestTraits<kRequest>::Payload& payload, uint8_t nr_fds = 0) {
  return Message(kRequest, payload, nr_fds);
}

// Rings that hold a chain. See virtqueue_fuzz for the layout.
std::string Ring(uint8_t flags) {
  struct [[gnu::packed]] Descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t a;
    uint16_t b;
  };
  const bool is_packed = (flags & 1) != 0;
  std::string memory(0x3000, '\0');
  const auto put = [&memory](size_t at, const auto& value) {
    std::memcpy(memory.data() + at, &value, sizeof(value));
  };
  // A readable descriptor, a writable one, and, in the second region, an indirect table of two.
  constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4, kAvail = 1 << 7;
  if (is_packed) {
    put(0, Descriptor{.address = 0x2800, .length = 16, .a = 0, .b = kNext | kAvail});
    put(16, Descriptor{.address = 0x9000, .length = 512, .a = 1, .b = kWrite | kAvail});
    put(32, Descriptor{.address = 0x2900, .length = 32, .a = 2, .b = kIndirect | kAvail});
  } else {
    put(0, Descriptor{.address = 0x2800, .length = 16, .a = kNext, .b = 1});
    put(16, Descriptor{.address = 0x9000, .length = 512, .a = kWrite, .b = 0});
    put(32, Descriptor{.address = 0x2900, .length = 32, .a = kIndirect, .b = 0});
    // Two chains are available.
    put(0x2002, uint16_t{2});
    put(0x2006, uint16_t{2});
  }
  put(0x2900, Descriptor{.address = 0x2800, .length = 16, .a = kNext, .b = 1});
  put(0x2910, Descriptor{.address = 0x8000, .length = 64, .a = kWrite, .b = 0});
  constexpr char kEntries = 15;
  return std::string({static_cast<char>(flags), kEntries, 0, 0}) + memory;
}

// A front-end's part of the life of a device, and the driver's part.
std::string Life(uint64_t features, uint64_t protocol_features) {
  using R = FrontendRequest;
  constexpr uint64_t kUser = 0x10000;
  constexpr uint8_t kEvent = 0x21;
  const bool is_packed = (features & Bit(VirtioFeature::kRingPacked)) != 0;
  MemoryTable table = {};
  table.nr_regions = 1;
  table.regions[0] = {.guest_address = 0, .size = 0x10000, .user_address = kUser, .mmap_offset = 0};
  // The addresses that Ring() uses.
  const VringAddress address = {.index = 0,
                                .flags = kVringLog,
                                .descriptor = kUser,
                                .used = kUser + 0x1000,
                                .available = kUser + 0x2000,
                                .log = kUser + 0x1000};
  ConfigSpace config = {};
  config.size = 16;
  const InflightArea inflight = {
      .mmap_size = kPage, .mmap_offset = 0xe000, .nr_queues = 1, .queue_size = 16, .padding = 0};
  const VringState queue = {.index = 0, .num = 16};
  const VringState on = {.index = 0, .num = 1};
  const VringState off = {.index = 0, .num = 0};
  const VringState base = {.index = 0, .num = is_packed ? 0x80008000U : 0U};
  IotlbMessage iotlb = {.iova = 0,
                        .size = kUser,
                        .user_address = kUser,
                        .permissions = kIotlbRead | kIotlbWrite,
                        .type = IotlbType::kUpdate,
                        .padding = {}};
  // Writes the rings to the start of the memory, and kicks.
  std::string ring = Ring(is_packed ? 3 : 2).substr(4);
  ring.insert(0, 2, '\0');
  const std::string driver =
      Record({reinterpret_cast<const uint8_t*>(ring.data()), ring.size()}, /*control=*/0x10);

  std::string life = absl::StrCat(
      Ask<R::kGetFeatures>({}), Ask<R::kGetProtocolFeatures>({}),
      Ask<R::kSetProtocolFeatures>(protocol_features), Ask<R::kSetOwner>({}),
      Ask<R::kGetQueueNum>({}), Ask<R::kGetMaxMemSlots>({}), Ask<R::kSetFeatures>(features),
      Ask<R::kGetConfig>(config), Ask<R::kSetConfig>(config), Ask<R::kGetShmemConfig>({}));
  absl::StrAppend(&life, Ask<R::kSetMemTable>(table, 1), Ask<R::kGetInflightFd>(inflight),
                  Ask<R::kSetInflightFd>(inflight, 1), Ask<R::kIotlbMsg>(iotlb));
  if ((protocol_features & Bit(ProtocolFeature::kLogShmfd)) != 0) {
    absl::StrAppend(&life, Ask<R::kSetLogBase>({.mmap_size = kPage, .mmap_offset = 0xf000}, 1));
  }
  iotlb.iova = kUser;
  absl::StrAppend(&life, Ask<R::kSetVringNum>(queue), Ask<R::kSetVringBase>(base),
                  Ask<R::kSetVringAddr>(address), Ask<R::kSetVringCall>(0, kEvent),
                  Ask<R::kSetVringKick>(0, kEvent), Ask<R::kIotlbMsg>(iotlb), driver,
                  Ask<R::kSetVringEnable>(on), driver, Ask<R::kSetVringEnable>(off), driver,
                  Ask<R::kSetVringKick>(kVringNoFd), Ask<R::kSetStatus>(uint64_t{15}),
                  Ask<R::kGetStatus>({}), Ask<R::kGetVringBase>(off));
  absl::StrAppend(&life, Ask<R::kRemMemReg>({.padding = 0, .region = table.regions[0]}),
                  Ask<R::kAddMemReg>({.padding = 0, .region = table.regions[0]}, 1),
                  Ask<R::kVringKick>(off), Ask<R::kPostcopyAdvise>({}), Ask<R::kPostcopyEnd>({}),
                  Ask<R::kCheckDeviceState>({}), Ask<R::kResetDevice>({}));
  return life;
}

bool Write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  return file.good();
}

bool WriteAll(const std::filesystem::path& dir) {
  for (const char* const name : {"frontend", "backend", "virtqueue"}) {
    std::filesystem::create_directories(dir / name);
  }
  bool ok = true;
  // All features that a back-end offers, except those that change the meaning of all others.
  constexpr uint64_t kProtocolFeatures =
      0x7fffff & ~Bit(ProtocolFeature::kXenMmap) & ~Bit(ProtocolFeature::kCrossEndian) &
      ~Bit(ProtocolFeature::kGpaAddresses) & ~Bit(ProtocolFeature::kGetVringBaseInflight);
  constexpr uint64_t kFeatures = Bit(VirtioFeature::kProtocolFeatures) |
                                 Bit(VirtioFeature::kVersion1) | Bit(VirtioFeature::kIndirectDesc) |
                                 Bit(VirtioFeature::kLogAll);
  for (const uint64_t ring : {uint64_t{0}, Bit(VirtioFeature::kRingPacked)}) {
    for (const uint64_t more : {uint64_t{0}, Bit(VirtioFeature::kIommuPlatform)}) {
      for (const uint64_t protocol_more : {uint64_t{0}, Bit(ProtocolFeature::kGpaAddresses),
                                           Bit(ProtocolFeature::kGetVringBaseInflight)}) {
        const uint64_t features = kFeatures | ring | more;
        const uint64_t protocol_features = kProtocolFeatures | protocol_more;
        ok &= Write(
            dir / "backend" / absl::StrCat(absl::Hex(features), "-", absl::Hex(protocol_features)),
            Life(features, protocol_features));
      }
    }
  }
  ok &= Write(dir / "backend" / "plain", Life(Bit(VirtioFeature::kVersion1), 0));
  for (const uint64_t features : {uint64_t{0x7fffff}, ~uint64_t{0}, uint64_t{0x40000000}}) {
    const std::string name = absl::StrCat(absl::Hex(features));
    for (int numbers = 1; numbers < 6; numbers++) {
      ok &= Write(dir / "frontend" / absl::StrCat(name, "-", numbers),
                  Conversation(numbers, features));
    }
  }
  for (uint8_t flags = 0; flags < 32; flags++) {
    ok &= Write(dir / "virtqueue" / absl::StrCat(flags), Ring(flags));
  }
  return ok;
}

}  // namespace
}  // namespace gmem::vhost

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz_seeds DIR\n";
    return 2;
  }
  if (!gmem::vhost::WriteAll(argv[1])) {
    std::cerr << "fuzz_seeds: can't write to " << argv[1] << "\n";
    return 1;
  }
}
