// SPDX-License-Identifier: MIT OR Apache-2.0
// The devices, driven by a scripted front-end and a scripted driver.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
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

#include "block_device.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "shm_device.h"
#include "shm_protocol.h"
#include "vhost/testing/scripted_frontend.h"

namespace {

using gmem::vhost::FromBytes;
using gmem::vhost::FrontendRequest;
using gmem::vhost::MemoryTable;
using gmem::vhost::Message;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::ShmemMapping;
using gmem::vhost::VirtioFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kIndirect;
using gmem::vhost::doubles::kNext;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::NewFile;
using gmem::vhost::doubles::Piece;
using gmem::vhost::doubles::ScriptedFrontendTest;
using gmem::vhost::doubles::TestGuest;
using gmem::vhost::doubles::TestRing;

constexpr uint64_t kFileSize = 1 << 20;

class DevicesTest : public ScriptedFrontendTest {
 protected:
  DevicesTest() : path_(std::filesystem::temp_directory_path() / "gmem-devices-test.XXXXXX") {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, kFileSize), 0);
    close(fd);
  }
  ~DevicesTest() override {
    Disconnect();
    unlink(path_.c_str());
  }

  // Starts the device with all of its features except @without.
  void StartDevice(gmem::vhost::Device& device, uint64_t protocol_features, uint64_t without = 0) {
    Connect(device);
    Negotiate((device.features() & ~without) | gmem::vhost::Bit(VirtioFeature::kIndirectDesc),
              protocol_features);
    SetTable();
    StartQueue();
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

  static constexpr uint64_t kAnswer = TestGuest::kData + 0x10000;
  static constexpr uint64_t kBlkFeatures = gmem::vhost::Bit(ProtocolFeature::kReplyAck) |
                                           gmem::vhost::Bit(ProtocolFeature::kConfig) |
                                           gmem::vhost::Bit(ProtocolFeature::kMq);

  std::string path_;
};

template <typename T>
std::string Bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string Header(uint32_t type, uint64_t sector = 0) {
  return Bytes(virtio_blk_outhdr{.type = type, .ioprio = 0, .sector = sector});
}

class BlockDeviceTest : public DevicesTest {
 protected:
  void Start(bool is_read_only = false, uint64_t without = 0) {
    device_ = std::make_unique<BlockDevice>(
        *BlockDevice::Open(path_, {.is_read_only = is_read_only, .nr_queues = 2}));
    StartDevice(*device_, kBlkFeatures, without);
  }
  static constexpr uint64_t kMaxRequest = 64 << 20;
  // Returns the status byte of the answer; -1 if there is no answer.
  int Status(const std::string& readable, uint32_t size = 0) {
    if (!Request(readable, size + 1)) return -1;
    return static_cast<uint8_t>(Answer(size + 1).back());
  }
  ~BlockDeviceTest() override {
    Disconnect();
    device_.reset();
  }

  std::unique_ptr<BlockDevice> device_;
};

TEST_F(BlockDeviceTest, Configuration) {
  Start();
  const auto reply = Ask<FrontendRequest::kGetConfig>(
      {.offset = 0, .size = sizeof(virtio_blk_config), .flags = 0, .bytes = {}});
  ASSERT_TRUE(reply.ok());
  const auto config = FromBytes<virtio_blk_config>(reply->bytes);
  EXPECT_EQ(config.capacity, kFileSize / 512);
  EXPECT_EQ(config.num_queues, 2);
  // A request has limits, because the front-end waits meanwhile.
  EXPECT_NE(device_->features() & (1U << VIRTIO_BLK_F_SIZE_MAX), 0U);
  EXPECT_LE(uint64_t{config.size_max} * config.seg_max, kMaxRequest);
  EXPECT_LE(uint64_t{config.max_write_zeroes_sectors} * config.max_write_zeroes_seg * 512,
            kMaxRequest);
}

class HugeRequestTest : public BlockDeviceTest {
 protected:
  HugeRequestTest() { EXPECT_EQ(truncate(path_.c_str(), int64_t{2} << 30), 0); }
  // Reads to @address many times: all descriptors may name the same memory.
  int Read(uint64_t size, uint64_t address = TestGuest::kGuest + kAnswer, uint32_t piece = kPiece) {
    std::memcpy(guest_.at(TestGuest::kData), Header(VIRTIO_BLK_T_IN).data(), 16);
    std::vector<Piece> pieces = {{TestGuest::kGuest + TestGuest::kTable, 0, kIndirect}};
    uint16_t count = 0;
    const auto put = [&](const Piece& piece) {
      ring_.PutTable(count, piece, static_cast<uint16_t>(count + 1));
      count++;
    };
    put({kData, 16, kNext});
    for (uint64_t done = 0; done < size; done += piece) put({address, piece, kWrite | kNext});
    put({kData + 16, 1, kWrite});
    pieces[0].length = 16U * count;
    ring_.Add(pieces);
    Kick();
    Run();
    EXPECT_TRUE(ring_.TakeUsed());
    return *guest_.at(TestGuest::kData + 16);
  }

  static constexpr uint32_t kPiece = 0x40000;
};

TEST_F(HugeRequestTest, AreRefused) {
  Start();
  EXPECT_EQ(Read(kMaxRequest - kPiece), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Read(kMaxRequest + kPiece), VIRTIO_BLK_S_IOERR);
}

// Firmware takes neither SIZE_MAX nor SEG_MAX, and loads a kernel with one request.
class FirmwareTest : public HugeRequestTest, public testing::WithParamInterface<unsigned> {};

TEST_P(FirmwareTest, ReadsMuchAtOnce) {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  Start(/*is_read_only=*/false, uint64_t{1} << GetParam());
  EXPECT_EQ(Read(kMaxRequest + kPiece), VIRTIO_BLK_S_OK);
  // More than EDK2's driver sends.
  const gmem::UniqueFd file = NewFile(2 * kGiB);
  MemoryTable table = {.nr_regions = 2, .padding = 0, .regions = {guest_.region()}};
  table.regions[1] = {.guest_address = 4 * kGiB,
                      .size = 2 * kGiB,
                      .user_address = TestGuest::kUser + 4 * kGiB,
                      .mmap_offset = 0};
  ASSERT_TRUE(Ask<FrontendRequest::kSetMemTable>(table, {guest_.fd(), file.get()}).ok());
  EXPECT_EQ(Read(1, 4 * kGiB, kGiB + 512), VIRTIO_BLK_S_IOERR);
}

INSTANTIATE_TEST_SUITE_P(WithoutALimit, FirmwareTest,
                         testing::Values(VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX));

TEST_F(BlockDeviceTest, WritesAndReads) {
  Start();
  const std::string data(1024, 'x');
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT, 3) + data), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_OK);
  std::string file(1024, 0);
  const gmem::UniqueFd fd(open(path_.c_str(), O_RDONLY));
  ASSERT_EQ(pread(fd.get(), file.data(), file.size(), 3 * 512), 1024);
  EXPECT_EQ(file, data);
  EXPECT_EQ(Request(Header(VIRTIO_BLK_T_IN, 4), 513), 513U);
  EXPECT_EQ(Answer(513), std::string(512, 'x') + '\0');
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 20), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Answer(20).substr(0, 14), "gmem-vhost-blk");
}

TEST_F(BlockDeviceTest, RefusesWhatIsNotInTheFile) {
  Start();
  constexpr uint64_t kEnd = kFileSize / 512;
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kEnd - 1), 512), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kEnd - 1), 1024), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kEnd), 512), VIRTIO_BLK_S_IOERR);
  // The number of bytes wraps around.
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, uint64_t{1} << 55), 512), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, ~uint64_t{0}), 512), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT, kEnd) + std::string(512, 'y')), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, 0), 100), VIRTIO_BLK_S_IOERR) << "no whole sectors";
  EXPECT_EQ(Status(Header(77)), VIRTIO_BLK_S_UNSUPP);
}

// CVE-2026-86566: a request may be shorter than its type needs.
TEST_F(BlockDeviceTest, SurvivesShortRequests) {
  Start();
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT).substr(0, 15)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + "short"), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 19), VIRTIO_BLK_S_IOERR);
  // A request without room for a status breaks its queue, but not the session.
  EXPECT_EQ(Request(Header(VIRTIO_BLK_T_IN), 0), std::nullopt);
  EXPECT_TRUE(Take(error_));
  EXPECT_TRUE(session_.ok());
}

// CVE-2021-3545: an answer contains no other memory of this process. CVE-2021-3546: an answer uses
// only the room that it needs.
TEST_F(BlockDeviceTest, AnswersHaveNothingButWhatWasAskedFor) {
  Start();
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 40), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Answer(40), "gmem-vhost-blk" + std::string(6, '\0') + std::string(20, '\xee'));
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kFileSize / 512), 512), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Answer(512), std::string(512, '\xee'));
  const auto reply = Ask<FrontendRequest::kGetConfig>(
      {.offset = 0, .size = gmem::vhost::kMaxConfigSize, .flags = 0, .bytes = {}});
  ASSERT_TRUE(reply.ok());
  for (size_t i = sizeof(virtio_blk_config); i < reply->bytes.size(); i++) {
    ASSERT_EQ(reply->bytes[i], 0) << i;
  }
}

TEST_F(BlockDeviceTest, DiscardsAndZeroes) {
  Start();
  ASSERT_EQ(Status(Header(VIRTIO_BLK_T_OUT) + std::string(16384, 'x')), VIRTIO_BLK_S_OK);
  const auto range = [](uint64_t sector, uint32_t count, uint32_t flags) {
    return Bytes(
        virtio_blk_discard_write_zeroes{.sector = sector, .num_sectors = count, .flags = flags});
  };
  const std::string zero = Header(VIRTIO_BLK_T_WRITE_ZEROES);
  EXPECT_EQ(Status(zero + range(1, 2, 0)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(zero + range(8, 8, 1)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(zero + range(1, 2, 0) + range(8, 8, 1)), VIRTIO_BLK_S_IOERR) << "one at a time";
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 16384), VIRTIO_BLK_S_OK);
  const std::string file = Answer(16384);
  EXPECT_EQ(file.substr(0, 512), std::string(512, 'x'));
  EXPECT_EQ(file.substr(512, 1024), std::string(1024, 0));
  EXPECT_EQ(file.substr(1536, 512), std::string(512, 'x'));
  EXPECT_EQ(file.substr(4096, 4096), std::string(4096, 0));
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + range(16, 8, 0)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + range(16, 8, 1)), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(Status(zero + range(kFileSize / 512, 1, 0)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(zero + range(~uint64_t{0}, 0xffffffff, 0)), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockDeviceTest, ReadOnlyIsReadOnly) {
  Start(/*is_read_only=*/true);
  EXPECT_NE(device_->features() & (1U << VIRTIO_BLK_F_RO), 0U);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT) + std::string(512, 'x')), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 512), VIRTIO_BLK_S_OK);
}

class ShmDeviceTest : public DevicesTest {
 protected:
  void Start(bool map_at_start = false, bool is_read_only = false) {
    auto device = ShmDevice::Create({path_ + "@65536"}, {.shmid = 2,
                                                         .size = 4 * kFileSize,
                                                         .nr_queues = 1,
                                                         .map_at_start = map_at_start,
                                                         .is_read_only = is_read_only});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    StartDevice(*device_, kShmFeatures);
    OpenChannel();
  }
  ~ShmDeviceTest() override {
    Disconnect();
    device_.reset();
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
