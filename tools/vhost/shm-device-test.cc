// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-shm's device, driven by a scripted front-end and a scripted driver.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "shm_device.h"
#include "shm_protocol.h"
#include "vhost/testing/scripted_frontend.h"

namespace {

using gmem::vhost::FromBytes;
using gmem::vhost::FrontendRequest;
using gmem::vhost::Message;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::ShmemMapping;
using gmem::vhost::VirtioFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::Piece;
using gmem::vhost::doubles::ScriptedFrontendTest;
using gmem::vhost::doubles::TestGuest;
using gmem::vhost::doubles::TestRing;

constexpr uint64_t kFileSize = 1 << 20;

template <typename T>
std::string Bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

class ShmDeviceTest : public ScriptedFrontendTest {
 protected:
  ShmDeviceTest() : path_(std::filesystem::temp_directory_path() / "gmem-shm-test.XXXXXX") {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, kFileSize), 0);
    close(fd);
  }
  ~ShmDeviceTest() override {
    Disconnect();
    device_.reset();
    unlink(path_.c_str());
  }

  void Start(bool map_at_start = false, bool is_read_only = false) {
    auto device = ShmDevice::Create({path_ + "@65536"}, {.shmid = 2,
                                                         .size = 4 * kFileSize,
                                                         .nr_queues = 1,
                                                         .map_at_start = map_at_start,
                                                         .is_read_only = is_read_only});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    Connect(*device_);
    Negotiate(gmem::vhost::Bit(VirtioFeature::kIndirectDesc), kShmFeatures);
    SetTable();
    StartQueue();
    OpenChannel();
  }
  // Sends one request of the driver: the bytes of @readable, and room for an answer.
  std::optional<uint32_t> Request(const std::string& readable, uint32_t writable) {
    std::memcpy(guest_.at(TestGuest::kData), readable.data(), readable.size());
    std::memset(guest_.at(kAnswer), 0xee, writable);
    std::vector<Piece> pieces = {{kData, static_cast<uint32_t>(readable.size()), 0},
                                 {TestGuest::kGuest + kAnswer, writable, kWrite}};
    if (writable == 0) pieces.pop_back();
    ring_.Add(pieces);
    Kick();
    Run();
    const auto used = ring_.TakeUsed();
    if (!used) return std::nullopt;
    return used->written;
  }
  std::string Answer(uint32_t size) const {
    return {reinterpret_cast<const char*>(guest_.at(kAnswer)), size};
  }

  // Starts a request. Returns the message that the front-end gets, or null.
  Message* StartRequest(const ShmRequest& request) {
    EXPECT_FALSE(Request(Bytes(request), 1)) << "answered before the front-end has";
    return NextOfChannel();
  }
  int FinishRequest(const absl::Status& status) {
    EXPECT_TRUE(channel_->Acknowledge(status).ok());
    Run();
    return ring_.TakeUsed() ? static_cast<uint8_t>(Answer(1)[0]) : -1;
  }

  // The device asks the front-end to remove the mapping again.
  void ExpectUnmapped() {
    Message* const message = NextOfChannel();
    ASSERT_NE(message, nullptr);
    EXPECT_EQ(message->header.request, 10U);
    EXPECT_EQ(FromBytes<ShmemMapping>(message->bytes()).shm_offset, kMap.shm_offset);
    EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
    Run();
  }

  static constexpr uint64_t kShmFeatures = gmem::vhost::Bit(ProtocolFeature::kReplyAck) |
                                           gmem::vhost::Bit(ProtocolFeature::kBackendReq) |
                                           gmem::vhost::Bit(ProtocolFeature::kBackendSendFd) |
                                           gmem::vhost::Bit(ProtocolFeature::kStatus) |
                                           gmem::vhost::Bit(ProtocolFeature::kShmemMap);
  static constexpr ShmRequest kMap = {.op = kShmMap,
                                      .file = 0,
                                      .file_offset = 4096,
                                      .shm_offset = 8192,
                                      .length = 16384,
                                      .flags = kShmWritable,
                                      .padding = 0};

  static constexpr uint64_t kAnswer = TestGuest::kData + 0x10000;

  std::string path_;
  std::unique_ptr<ShmDevice> device_;
};

TEST_F(ShmDeviceTest, MapsAndUnmapsOnRequest) {
  Start();
  const auto config = Ask<FrontendRequest::kGetShmemConfig>();
  EXPECT_EQ(config->nr_regions, 1U);
  EXPECT_EQ(config->sizes[2], 4 * kFileSize);
  Message* message = StartRequest(kMap);
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, 9U);
  auto mapping = FromBytes<ShmemMapping>(message->bytes());
  EXPECT_EQ(mapping.shmid, 2);
  EXPECT_EQ(mapping.fd_offset, 4096U);
  EXPECT_EQ(mapping.shm_offset, 8192U);
  EXPECT_EQ(mapping.len, 16384U);
  EXPECT_EQ(mapping.flags, gmem::vhost::kShmemMapRw);
  ASSERT_EQ(pwrite(message->fds.get(0), "file", 4, 0), 4);
  EXPECT_EQ(FinishRequest(absl::OkStatus()), kShmOk);
  ShmRequest request = kMap;
  request.op = kShmUnmap;
  message = StartRequest(request);
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, 10U);
  EXPECT_EQ(FinishRequest(absl::InternalError("no")), kShmRefused);
}

TEST_F(ShmDeviceTest, RefusesWhatIsNoRequest) {
  Start();
  const auto answer = [this](const std::string& request) {
    return Request(request, 1) ? static_cast<uint8_t>(Answer(1)[0]) : -1;
  };
  EXPECT_EQ(answer(Bytes(kMap).substr(0, 39)), kShmInvalid);
  ShmRequest request = kMap;
  request.op = 3;
  EXPECT_EQ(answer(Bytes(request)), kShmInvalid);
  request = kMap;
  request.file = 1;
  EXPECT_EQ(answer(Bytes(request)), kShmInvalid);
  request = kMap;
  request.flags = 2;
  EXPECT_EQ(answer(Bytes(request)), kShmInvalid);
  // These go beyond the file.
  for (const uint64_t offset : {kFileSize, kFileSize - 4096, ~uint64_t{0} - 4095}) {
    request = kMap;
    request.file_offset = offset;
    EXPECT_EQ(answer(Bytes(request)), kShmInvalid) << offset;
  }
}

TEST_F(ShmDeviceTest, ReadOnlyFilesAreNotMappedWritable) {
  Start(/*map_at_start=*/false, /*is_read_only=*/true);
  EXPECT_TRUE(Request(Bytes(kMap), 1));
  EXPECT_EQ(static_cast<uint8_t>(Answer(1)[0]), kShmInvalid);
  ShmRequest request = kMap;
  request.flags = 0;
  EXPECT_NE(StartRequest(request), nullptr);
}

// The driver never learns of the mapping, so the device removes it.
TEST_F(ShmDeviceTest, AnswersThatComeAfterAResetFindNobody) {
  Start();
  ASSERT_NE(StartRequest(kMap), nullptr);
  ASSERT_TRUE(Ask<FrontendRequest::kSetStatus>(0).ok());
  ASSERT_TRUE(ring_.TakeUsed());
  EXPECT_EQ(static_cast<uint8_t>(Answer(1)[0]), kShmRefused);
  EXPECT_EQ(FinishRequest(absl::OkStatus()), -1);
  EXPECT_TRUE(session_.ok());
  ExpectUnmapped();
}

// The front-end doesn't answer the device's requests while it waits for GET_VRING_BASE.
TEST_F(ShmDeviceTest, StopsWhileTheFrontendMaps) {
  Start();
  ASSERT_NE(StartRequest(kMap), nullptr);
  EXPECT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  ASSERT_TRUE(ring_.TakeUsed());
  EXPECT_EQ(static_cast<uint8_t>(Answer(1)[0]), kShmRefused);
  EXPECT_EQ(FinishRequest(absl::OkStatus()), -1);
  ExpectUnmapped();
}

// Nor while it waits for the end of memory.
TEST_F(ShmDeviceTest, LetsMemoryGoWhileTheFrontendMaps) {
  Start();
  ASSERT_NE(StartRequest(kMap), nullptr);
  EXPECT_TRUE(Ask<FrontendRequest::kRemMemReg>({.padding = 0, .region = guest_.region()}).ok());
  ASSERT_TRUE(ring_.TakeUsed());
  EXPECT_EQ(static_cast<uint8_t>(Answer(1)[0]), kShmRefused);
  EXPECT_EQ(FinishRequest(absl::OkStatus()), -1);
  ExpectUnmapped();
}

// A guest may send requests as fast as they are answered: the front-end has its turn in between.
TEST_F(ShmDeviceTest, LooksUpFromItsRequests) {
  Start();
  constexpr uint16_t kSize = 256;
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = kSize}).ok());
  TestRing ring(guest_, kSize, /*is_packed=*/false);
  for (int i = 0; i < kSize; i++) ring.Add({{TestGuest::kGuest + kAnswer, 1, kWrite}});
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringBase>({.index = 0, .num = 0}).ok());
  frontend_->Start<FrontendRequest::kSetVringKick>(0, {kick_.get()},
                                                   [](const absl::StatusOr<Message*>&) {});
  int nr_answers = 0;
  const auto take = [&] {
    while (ring.TakeUsed()) nr_answers++;
    return nr_answers;
  };
  Run();
  EXPECT_LT(take(), kSize);
  for (int i = 0; i < kSize && take() < kSize; i++) Run();
  EXPECT_EQ(nr_answers, kSize);
}

TEST_F(ShmDeviceTest, MapsAtTheStart) {
  Start(/*map_at_start=*/true);
  Run();
  for (int i = 0; i < 2; i++) {
    Message* const message = NextOfChannel();
    ASSERT_NE(message, nullptr) << i;
    const auto mapping = FromBytes<ShmemMapping>(message->bytes());
    EXPECT_EQ(mapping.shm_offset, 65536U);
    EXPECT_EQ(mapping.len, kFileSize);
    ASSERT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetStatus>(0).ok());
    EXPECT_EQ(NextOfChannel(), nullptr) << "after a reset";
    ASSERT_TRUE(Ask<FrontendRequest::kSetStatus>(0xf).ok());
  }
}

TEST_F(ShmDeviceTest, ChecksItsFiles) {
  const auto create = [](const std::string& file) {
    return ShmDevice::Create({file}, {.size = kFileSize}).ok();
  };
  EXPECT_TRUE(create(path_));
  EXPECT_FALSE(create(path_ + "@4096")) << "beyond the region's end";
  EXPECT_FALSE(create(path_ + "@1"));
  EXPECT_FALSE(create(path_ + "@x"));
  EXPECT_FALSE(create("/nowhere"));
}

}  // namespace
