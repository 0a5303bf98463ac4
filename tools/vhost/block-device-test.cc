// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests that gmem-vhost-blk carries out.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/virtio_blk.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "block_device_test.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/scripted_frontend.h"

namespace {

using block_test::BlockDeviceTest;
using block_test::Bytes;
using block_test::Header;
using block_test::kFileSize;
using gmem::vhost::FrontendRequest;
using gmem::vhost::MemoryTable;
using gmem::vhost::ProtocolFeature;
using gmem::vhost::doubles::kData;
using gmem::vhost::doubles::kIndirect;
using gmem::vhost::doubles::kNext;
using gmem::vhost::doubles::kWrite;
using gmem::vhost::doubles::NewFile;
using gmem::vhost::doubles::Piece;
using gmem::vhost::doubles::TestGuest;
using gmem::vhost::doubles::TestRing;

constexpr uint64_t kMaxRequest = 64 << 20;

std::string Range(uint64_t sector, uint32_t count, uint32_t flags) {
  return Bytes(
      virtio_blk_discard_write_zeroes{.sector = sector, .num_sectors = count, .flags = flags});
}

TEST_F(BlockDeviceTest, Configuration) {
  Start({"--queues=2"});
  const virtio_blk_config config = Config();
  EXPECT_EQ(config.capacity, kFileSize / 512);
  EXPECT_EQ(config.num_queues, 2);
  // A request has limits, because the front-end waits meanwhile.
  EXPECT_TRUE(Offers(VIRTIO_BLK_F_SIZE_MAX));
  EXPECT_LE(uint64_t{config.size_max} * config.seg_max, kMaxRequest);
  EXPECT_LE(uint64_t{config.max_write_zeroes_sectors} * config.max_write_zeroes_seg * 512,
            kMaxRequest);
}

TEST_F(BlockDeviceTest, TellsTheBlocksBelow) {
  Start();
  EXPECT_TRUE(Offers(VIRTIO_BLK_F_TOPOLOGY));
  const virtio_blk_config config = Config();
  struct stat info = {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(config.blk_size, 512U);
  EXPECT_EQ(512U << config.physical_block_exp, static_cast<unsigned>(info.st_blksize));
  EXPECT_EQ(config.min_io_size * 512U, static_cast<unsigned>(info.st_blksize));
  EXPECT_EQ(config.discard_sector_alignment, 1U);
}

TEST_F(BlockDeviceTest, HasAsManyQueuesAsTheFlagSays) {
  program_ = StartProgram({"--queues=256"});
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  EXPECT_EQ(*Ask<FrontendRequest::kGetQueueNum>(), 256U);
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
    EXPECT_TRUE(AwaitUsed());
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
  Start({}, uint64_t{1} << GetParam());
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
  EXPECT_EQ(ReadFile(1024, 3 * 512), data);
  EXPECT_EQ(Request(Header(VIRTIO_BLK_T_IN, 4), 513), 513U);
  EXPECT_EQ(Answer(513), std::string(512, 'x') + '\0');
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 20), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Answer(20).substr(0, 14), "gmem-vhost-blk");
}

TEST_F(BlockDeviceTest, UsesARing) {
  Start();
  bool has_ring = false;
  const std::string folder = absl::StrCat("/proc/", program_->pid(), "/fd");
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::error_code error;
    has_ring |= absl::StrContains(std::filesystem::read_symlink(entry, error).string(), "io_uring");
  }
  EXPECT_TRUE(has_ring);
}

// Containers refuse rings.
TEST_F(BlockDeviceTest, WorksWithoutRings) {
  program_ = StartProgram({}, [] {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program = {.len = std::size(code), .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  });
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  ASSERT_NO_FATAL_FAILURE(StartQueue());
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT, 1) + std::string(512, 'x')), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 1024), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Answer(1024), std::string(512, 0) + std::string(512, 'x'));
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + Range(0, 8, 0)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_FLUSH)), VIRTIO_BLK_S_OK);
  EndSession();
  EXPECT_EQ(program_->Wait(), 0);
  EXPECT_THAT(program_->Errors(), testing::HasSubstr("the kernel refuses an io_uring"));
}

TEST_F(BlockDeviceTest, TheSerialNumberIsTheUsers) {
  Start({"--serial=01234567890123456789"});
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 20), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Answer(20), "01234567890123456789");
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

TEST_F(BlockDeviceTest, AFileThatHasShrunkIsAnError) {
  Start();
  ASSERT_EQ(truncate(path_.c_str(), kFileSize / 2), 0);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kFileSize / 512 - 2), 512), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, 0), 512), VIRTIO_BLK_S_OK);
}

// CVE-2026-86566: a request may be shorter than its type needs.
TEST_F(BlockDeviceTest, SurvivesShortRequests) {
  Start();
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT).substr(0, 15)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + "short"), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_GET_ID), 19), VIRTIO_BLK_S_IOERR);
  // A request without room for a status breaks its queue, but not the session.
  EXPECT_EQ(Request(Header(VIRTIO_BLK_T_IN), 0), std::nullopt);
  EXPECT_TRUE(has_failed_);
  EXPECT_TRUE(Ask<FrontendRequest::kGetFeatures>().ok());
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
  uint64_t before = AllocatedSize();
  const std::string zero = Header(VIRTIO_BLK_T_WRITE_ZEROES);
  EXPECT_EQ(Status(zero + Range(1, 2, 0)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(AllocatedSize(), before) << "without the flag, the sectors keep their room";
  EXPECT_EQ(Status(zero + Range(8, 8, 1)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(Status(zero + Range(1, 2, 0) + Range(8, 8, 1)), VIRTIO_BLK_S_IOERR) << "one at a time";
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 16384), VIRTIO_BLK_S_OK);
  const std::string file = Answer(16384);
  EXPECT_EQ(file.substr(0, 512), std::string(512, 'x'));
  EXPECT_EQ(file.substr(512, 1024), std::string(1024, 0));
  EXPECT_EQ(file.substr(1536, 512), std::string(512, 'x'));
  EXPECT_EQ(file.substr(4096, 4096), std::string(4096, 0));
  before = AllocatedSize();
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + Range(16, 8, 0)), VIRTIO_BLK_S_OK);
  EXPECT_LT(AllocatedSize(), before);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + Range(16, 8, 1)), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(Status(zero + Range(kFileSize / 512, 1, 0)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(zero + Range(~uint64_t{0}, 0xffffffff, 0)), VIRTIO_BLK_S_IOERR);
}

TEST_F(BlockDeviceTest, ARefusedDiscardHasNoEffect) {
  Start();
  ASSERT_EQ(Status(Header(VIRTIO_BLK_T_OUT) + std::string(8192, 'x')), VIRTIO_BLK_S_OK);
  const std::string discard = Header(VIRTIO_BLK_T_DISCARD);
  EXPECT_EQ(Status(discard + Range(0, 8, 0) + Range(kFileSize / 512, 1, 0)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(discard + Range(0, 8, 0) + Range(8, 8, 1)), VIRTIO_BLK_S_UNSUPP);
  EXPECT_EQ(ReadFile(8192), std::string(8192, 'x'));
  EXPECT_EQ(Status(discard + Range(0, 8, 0) + Range(8, 8, 0)), VIRTIO_BLK_S_OK);
  EXPECT_EQ(ReadFile(8192), std::string(8192, 0));
}

TEST_F(BlockDeviceTest, ReadOnlyIsReadOnly) {
  Start({"--read-only"});
  EXPECT_TRUE(Offers(VIRTIO_BLK_F_RO));
  EXPECT_FALSE(Offers(VIRTIO_BLK_F_DISCARD));
  EXPECT_FALSE(Offers(VIRTIO_BLK_F_CONFIG_WCE));
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT) + std::string(512, 'x')), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_DISCARD) + Range(0, 8, 0)), VIRTIO_BLK_S_IOERR);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 512), VIRTIO_BLK_S_OK);
}

TEST_F(BlockDeviceTest, TheDriverChoosesTheCache) {
  Start();
  constexpr uint32_t kCache = offsetof(virtio_blk_config, wce);
  EXPECT_TRUE(Offers(VIRTIO_BLK_F_CONFIG_WCE));
  EXPECT_EQ(Config().wce, 1);
  EXPECT_TRUE(WriteConfig(kCache, std::string(1, '\0')).ok());
  EXPECT_EQ(Config().wce, 0);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_OUT) + std::string(512, 'x')), VIRTIO_BLK_S_OK);
  EXPECT_FALSE(WriteConfig(kCache, "\2").ok());
  EXPECT_FALSE(WriteConfig(0, std::string(8, '\0')).ok());
  EXPECT_FALSE(WriteConfig(kCache - 1, std::string(2, '\1')).ok());
  EXPECT_EQ(Config().wce, 0);
  // A migration writes all bytes.
  EXPECT_TRUE(
      WriteConfig(0, std::string(sizeof(virtio_blk_config), '\1'), gmem::vhost::kConfigMigration)
          .ok());
  EXPECT_EQ(Config().wce, 1);
  EXPECT_EQ(Config().capacity, kFileSize / 512);
}

TEST_F(BlockDeviceTest, WithoutFlushesThereIsNoCache) {
  Start({}, uint64_t{1} << VIRTIO_BLK_F_FLUSH);
  EXPECT_EQ(Config().wce, 0);
}

// More requests than the device begins at a time.
class ManyRequestsTest : public BlockDeviceTest {
 protected:
  static constexpr uint16_t kSize = 512;
  static constexpr int kCount = kSize / 2;
  void SetUp() override {
    // The requests wait for a real disk, if the file is on one.
    const gmem::UniqueFd file(open(path_.c_str(), O_RDWR));
    const std::string data(kFileSize, 'd');
    ASSERT_EQ(write(file.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
    ASSERT_EQ(fsync(file.get()), 0);
    ASSERT_EQ(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    program_ = StartProgram();
    ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
    kick_.reset(eventfd(0, EFD_NONBLOCK));
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 0, .num = kSize}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringBase>({.index = 0, .num = 0}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(Address(0)).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(0, {kick_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
    for (int i = 0; i < kCount; i++) {
      const uint64_t at = TestGuest::kData + 1024 * static_cast<uint64_t>(i);
      const std::string header = Header(VIRTIO_BLK_T_IN, 8 * static_cast<uint64_t>(i));
      std::memcpy(guest_.at(at), header.data(), header.size());
      many_.Add({{TestGuest::kGuest + at, 16, 0}, {TestGuest::kGuest + at + 16, 513, kWrite}});
    }
  }
  TestRing many_{guest_, kSize, /*is_packed=*/false};
};

TEST_F(ManyRequestsTest, AreAllCompleted) {
  Kick();
  int nr_used = 0;
  for (int i = 0; i < 5000 && nr_used < kCount; i++) {
    while (many_.TakeUsed()) nr_used++;
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(nr_used, kCount);
}

// A request that has begun is finished; the others stay in the ring.
TEST_F(ManyRequestsTest, AStopLosesNone) {
  Kick();
  const auto base = Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0});
  ASSERT_TRUE(base.ok()) << base.status();
  uint32_t nr_used = 0;
  while (many_.TakeUsed()) nr_used++;
  EXPECT_EQ(base->num, nr_used);
}

}  // namespace
