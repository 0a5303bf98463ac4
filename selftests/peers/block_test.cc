// SPDX-License-Identifier: MIT OR Apache-2.0
// The same tests for two block devices, which are driven through their virtqueues: the
// vhost-user-blk export of qemu-storage-daemon, and gmem-vhost-blk.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "lib/block_client.h"
#include "lib/driver_memory.h"
#include "lib/peer.h"
#include "lib/session.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

using Result = BlockClient::Result;
using Type = BlockClient::Type;

constexpr uint64_t kImageSize = 16 << 20;
constexpr size_t kBlock = 4096;
constexpr uint64_t kSectorsPerBlock = kBlock / BlockClient::kSectorSize;
constexpr size_t kDepth = 32;
constexpr uint16_t kQueueSize = 128;
constexpr uint32_t kQueues = 2;

// VIRTIO_BLK_F_FLUSH and VIRTIO_BLK_F_MQ.
constexpr uint64_t kFlushFeature = 1 << 9;
constexpr uint64_t kMqFeature = 1 << 12;

// The bytes of a block depend on its place and on the number of its writer, so that no two blocks
// are equal.
std::vector<uint8_t> Pattern(uint64_t block, uint64_t writer) {
  std::vector<uint8_t> bytes(kBlock);
  uint64_t state = block * 1000003 + writer + 1;
  for (uint8_t& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<uint8_t>(state >> 56);
  }
  return bytes;
}

enum class Device { kQemuStorageDaemon, kGmem };

class BlockDeviceTest : public testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    std::ofstream(image()).close();
    ASSERT_EQ(truncate(image().c_str(), kImageSize), 0);
    auto memory = NewDriverMemory(4 << 20);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    for (uint32_t i = 0; i < kQueues; i++) {
      auto client = BlockClient::Create(*memory_, kQueueSize, kDepth, kBlock);
      ASSERT_TRUE(client.ok()) << client.status();
      queues_.push_back(*std::move(client));
    }
  }

  std::string image() const { return scratch_.path("disk"); }

  void StartDevice() {
    const std::string socket = scratch_.path("socket");
    const char* const tools = getenv("GMEM_TOOLS");
    auto peer =
        GetParam() == Device::kGmem
            ? Peer::Start({std::string(tools == nullptr ? "." : tools) + "/gmem-vhost-blk",
                           "--queues=2", "--socket-path=" + socket, "--blk-file=" + image()})
            : Peer::StartPackaged({"qemu-storage-daemon", "--blockdev",
                                   "driver=file,node-name=f,filename=" + image(), "--export",
                                   "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,"
                                   "writable=on,num-queues=2,addr.path=" +
                                       socket});
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
  }

  // Starts the killed device again. The front-end gives it the same memory and virtqueues, and the
  // place of each virtqueue.
  void Reconnect() {
    StartDevice();
    auto connection = Connection::Connect(scratch_.path("socket"), kStartTimeout);
    ASSERT_TRUE(connection.ok()) << connection.status();
    ASSERT_EQ(frontend_->Reconnect(*std::move(connection)), absl::OkStatus());
  }

  void Connect() {
    auto frontend = ConnectFrontend(scratch_.path("socket"), kFlushFeature | kMqFeature);
    ASSERT_TRUE(frontend.ok()) << frontend.status();
    frontend_ = *std::move(frontend);
    EXPECT_TRUE(frontend_->acked_features() & Bit(VirtioFeature::kVersion1));
    EXPECT_TRUE(frontend_->Has(ProtocolFeature::kReplyAck));
  }

  void StartQueues() {
    ASSERT_EQ(ShareMemory(*frontend_, *memory_), absl::OkStatus());
    EXPECT_EQ(frontend_->memory()[0].view != nullptr, UsesGuestMemory());
    for (uint32_t i = 0; i < kQueues; i++) {
      ASSERT_EQ(StartRing(*frontend_, i, queues_[i].ring()), absl::OkStatus());
    }
    ASSERT_EQ(frontend_->DriverOk(), absl::OkStatus());
  }

  void Write(uint32_t queue, uint64_t block, uint64_t writer) {
    const auto bytes = Pattern(block, writer);
    std::copy(bytes.begin(), bytes.end(), queues_[queue].data(0).begin());
    auto result = queues_[queue].Do(Type::kWrite, block * kSectorsPerBlock, kBlock);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, Result::kOk);
  }

  void ExpectRead(uint32_t queue, uint64_t block, const std::vector<uint8_t>& expected) {
    absl::Span<uint8_t> data = queues_[queue].data(0);
    std::fill(data.begin(), data.end(), 0xee);
    auto result = queues_[queue].Do(Type::kRead, block * kSectorsPerBlock, kBlock);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, Result::kOk);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), data.begin())) << "block " << block;
  }

  void ExpectInImage(uint64_t block, const std::vector<uint8_t>& expected) {
    std::ifstream file(image(), std::ios::binary);
    std::vector<uint8_t> bytes(kBlock);
    file.seekg(static_cast<std::streamoff>(block * kBlock));
    file.read(reinterpret_cast<char*>(bytes.data()), kBlock);
    EXPECT_EQ(file.gcount(), kBlock);
    EXPECT_EQ(bytes, expected) << "block " << block;
  }

  ScratchFolder scratch_;
  std::optional<Peer> peer_;
  std::unique_ptr<doubles::DriverMemory> memory_;
  std::vector<BlockClient> queues_;
  std::unique_ptr<Frontend> frontend_;
};

TEST_P(BlockDeviceTest, ReportsItsQueuesAndSize) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  EXPECT_EQ(frontend_->queue_num(), kQueues);
  EXPECT_GT(frontend_->max_memory_slots(), kMaxTableRegions);
  const auto config = frontend_->GetConfig(0, 8);
  ASSERT_TRUE(config.ok()) << config.status();
  uint64_t sectors = 0;
  ASSERT_EQ(config->size(), sizeof(sectors));
  std::memcpy(&sectors, config->data(), sizeof(sectors));
  EXPECT_EQ(sectors, kImageSize / BlockClient::kSectorSize);
}

TEST_P(BlockDeviceTest, WritesAndReads) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  const uint64_t last = kImageSize / kBlock - 1;
  for (const uint64_t block : {uint64_t{0}, uint64_t{1}, uint64_t{777}, last}) {
    ASSERT_NO_FATAL_FAILURE(Write(block % kQueues, block, 1));
  }
  for (uint32_t queue = 0; queue < kQueues; queue++) {
    const auto flushed = queues_[queue].Do(Type::kFlush, 0, 0);
    ASSERT_TRUE(flushed.ok()) << flushed.status();
    EXPECT_EQ(*flushed, Result::kOk);
  }
  for (const uint64_t block : {uint64_t{0}, uint64_t{1}, uint64_t{777}, last}) {
    // Read by another queue than the one that wrote the block.
    ExpectRead((block + 1) % kQueues, block, Pattern(block, 1));
    ExpectInImage(block, Pattern(block, 1));
  }
  ExpectRead(0, 2, std::vector<uint8_t>(kBlock));
}

TEST_P(BlockDeviceTest, ReportsItsName) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  const auto result = queues_[0].Do(Type::kGetId, 0, BlockClient::kIdSize);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, Result::kOk);
  EXPECT_STREQ(reinterpret_cast<const char*>(queues_[0].data(0).data()),
               GetParam() == Device::kGmem ? "gmem-vhost-blk" : "vhost_user_blk");
}

TEST_P(BlockDeviceTest, RefusesAReadBeyondTheDisk) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  const auto result = queues_[0].Do(Type::kRead, kImageSize / BlockClient::kSectorSize, kBlock);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(*result, Result::kIoError);
}

// Many requests at a time write the whole disk once. Their answers come in any order.
TEST_P(BlockDeviceTest, ServesManyRequestsAtATime) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  const uint64_t blocks = kImageSize / kBlock;
  for (uint64_t first = 0; first < blocks; first += kDepth * kQueues) {
    for (uint32_t q = 0; q < kQueues; q++) {
      for (size_t slot = 0; slot < kDepth; slot++) {
        const uint64_t block = first + q * kDepth + slot;
        const auto bytes = Pattern(block, 2);
        std::copy(bytes.begin(), bytes.end(), queues_[q].data(slot).begin());
        ASSERT_EQ(queues_[q].Start(slot, Type::kWrite, block * kSectorsPerBlock, kBlock),
                  absl::OkStatus());
      }
      queues_[q].ring().Kick();
    }
    for (uint32_t q = 0; q < kQueues; q++) {
      std::set<size_t> slots;
      for (size_t i = 0; i < kDepth; i++) {
        const auto done = queues_[q].Complete();
        ASSERT_TRUE(done.ok()) << done.status();
        EXPECT_EQ(done->second, Result::kOk);
        slots.insert(done->first);
      }
      EXPECT_EQ(slots.size(), kDepth);
    }
  }
  for (uint64_t block = 0; block < blocks; block++) ExpectInImage(block, Pattern(block, 2));
}

TEST_P(BlockDeviceTest, ContinuesAStoppedQueue) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  for (uint64_t block = 0; block < 5; block++) ASSERT_NO_FATAL_FAILURE(Write(0, block, 3));
  const auto base = frontend_->GetVringBase(0);
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(*base, 5u);
  ASSERT_EQ(StartRing(*frontend_, 0, queues_[0].ring(), static_cast<uint16_t>(*base)),
            absl::OkStatus());
  ExpectRead(0, 4, Pattern(4, 3));
}

// After the back-end is killed, the disk has the bytes that it had written, and the next back-end
// continues with the same rings.
TEST_P(BlockDeviceTest, ContinuesAfterAKill) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  for (uint64_t block = 0; block < 10; block++) {
    ASSERT_NO_FATAL_FAILURE(Write(block % kQueues, block, 4));
  }
  peer_->Kill();
  const auto features = frontend_->Call<FrontendRequest::kGetFeatures>();
  EXPECT_EQ(features.status().code(), absl::StatusCode::kUnavailable) << features.status();
  EXPECT_EQ(frontend_->status().code(), absl::StatusCode::kUnavailable);

  ASSERT_NO_FATAL_FAILURE(Reconnect());
  for (uint64_t block = 0; block < 10; block++) {
    ExpectRead(block % kQueues, block, Pattern(block, 4));
    ASSERT_NO_FATAL_FAILURE(Write(block % kQueues, block + 10, 5));
  }
  for (uint64_t block = 10; block < 20; block++) ExpectInImage(block, Pattern(block, 5));
}

INSTANTIATE_TEST_SUITE_P(Devices, BlockDeviceTest,
                         testing::Values(Device::kQemuStorageDaemon, Device::kGmem),
                         [](const testing::TestParamInfo<Device>& device) {
                           return device.param == Device::kGmem ? "Gmem" : "QemuStorageDaemon";
                         });

// Tests of a device that records its requests in the in-flight buffer.
class BlockDeviceRestartTest : public BlockDeviceTest {};

// The device is killed with requests under way, many times. It completes each request once.
TEST_P(BlockDeviceRestartTest, ResumesRequestsUnderWay) {
  StartDevice();
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_EQ(frontend_->StartInflight(kQueues, kQueueSize), absl::OkStatus());
  ASSERT_NO_FATAL_FAILURE(StartQueues());
  int late = 0;
  for (uint64_t round = 0; round < 20; round++) {
    for (size_t slot = 0; slot < kDepth; slot++) {
      for (uint32_t q = 0; q < kQueues; q++) {
        const uint64_t block = q * kDepth + slot;
        const auto bytes = Pattern(block, round);
        std::copy(bytes.begin(), bytes.end(), queues_[q].data(slot).begin());
        ASSERT_EQ(queues_[q].Start(slot, Type::kWrite, block * kSectorsPerBlock, kBlock),
                  absl::OkStatus());
      }
    }
    for (auto& queue : queues_) queue.ring().Kick();
    // Kill the device at another moment each time, when it has taken or completed some requests.
    const auto moment = std::chrono::steady_clock::now() + std::chrono::microseconds(round * 10);
    while (std::chrono::steady_clock::now() < moment) continue;
    peer_->Kill();
    for (auto& queue : queues_) {
      late += static_cast<uint16_t>((round + 1) * kDepth) - queue.ring().used_index();
    }
    ASSERT_NO_FATAL_FAILURE(Reconnect());
    for (auto& queue : queues_) {
      std::set<size_t> slots;
      for (size_t i = 0; i < kDepth; i++) {
        const auto done = queue.Complete();
        ASSERT_TRUE(done.ok()) << done.status() << " in round " << round;
        EXPECT_EQ(done->second, Result::kOk);
        slots.insert(done->first);
      }
      EXPECT_EQ(slots.size(), kDepth);
    }
    for (uint64_t block = 0; block < kQueues * kDepth; block++) {
      ExpectInImage(block, Pattern(block, round));
    }
  }
  // Otherwise, no request was under way at any kill.
  EXPECT_GT(late, 0);
  RecordProperty("late", late);
}

INSTANTIATE_TEST_SUITE_P(Devices, BlockDeviceRestartTest, testing::Values(Device::kGmem),
                         [](const testing::TestParamInfo<Device>&) { return "Gmem"; });

}  // namespace
}  // namespace gmem::vhost::peers
