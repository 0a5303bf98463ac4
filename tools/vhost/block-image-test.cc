// SPDX-License-Identifier: MIT OR Apache-2.0
// The file of gmem-vhost-blk: it grows, and others use it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "block_device_test.h"
#include "block_image.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "program_test.h"
#include "vhost/testing/scripted_frontend.h"

namespace {

using block_test::BlockDeviceTest;
using block_test::Header;
using block_test::kFileSize;
using gmem::vhost::FrontendRequest;
using gmem::vhost::Message;

TEST_F(BlockDeviceTest, AFileThatGrowsMakesALargerDisk) {
  Start();
  OpenChannel();
  constexpr uint64_t kEnd = kFileSize / 512;
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kEnd), 512), VIRTIO_BLK_S_IOERR);
  ASSERT_EQ(truncate(path_.c_str(), 2 * kFileSize + 100), 0);
  ASSERT_EQ(kill(program_->pid(), SIGHUP), 0);
  Message* message = nullptr;
  for (int i = 0; i < 2000 && message == nullptr; i++) {
    message = NextOfChannel();
    absl::SleepFor(absl::Milliseconds(5));
  }
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->header.request, 2U) << "VHOST_USER_BACKEND_CONFIG_CHANGE_MSG";
  EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
  EXPECT_EQ(Config().capacity, 2 * kFileSize / 512);
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN, kEnd), 512), VIRTIO_BLK_S_OK);
}

TEST_F(BlockDeviceTest, AnImageHasOneWriter) {
  Start();
  const auto second = StartProgram();
  const int status = second->Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  EXPECT_THAT(second->Errors(),
              testing::HasSubstr(absl::StrCat(path_, " is in use by another process")));
  const auto reader = StartProgram({"--read-only"});
  EXPECT_EQ(WEXITSTATUS(reader->Wait()), 1);
}

TEST_F(BlockDeviceTest, AnImageHasManyReaders) {
  Start({"--read-only"});
  const auto reader = StartProgram({"--read-only"});
  reader->TakeSocket().reset();
  EXPECT_EQ(reader->Wait(), 0);
  const auto writer = StartProgram();
  EXPECT_EQ(WEXITSTATUS(writer->Wait()), 1);
}

// A program that was killed may keep its lock for a moment.
TEST_F(BlockDeviceTest, WaitsForALockThatGoes) {
  const auto first = BlockImage::Open(path_, /*is_read_only=*/false);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE((*first)->Lock(absl::ZeroDuration()).ok());
  program_ = StartProgram();
  absl::SleepFor(absl::Milliseconds(300));
  (*first)->Unlock();
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  ASSERT_NO_FATAL_FAILURE(StartQueue());
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 512), VIRTIO_BLK_S_OK);
}

TEST_F(BlockDeviceTest, AnImageMayBeUnlocked) {
  Start();
  const auto second = StartProgram({"--lock=off"});
  second->TakeSocket().reset();
  EXPECT_EQ(second->Wait(), 0);
}

// The source of a migration stops its virtqueues before the destination starts its own.
TEST_F(BlockDeviceTest, AMigrationHandsTheLockOn) {
  Start();
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  const std::unique_ptr<Program> source = std::move(program_);
  const gmem::UniqueFd its_session = std::move(session_socket_);
  Start({"--lock=late"});
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 512), VIRTIO_BLK_S_OK);
}

TEST_F(BlockDeviceTest, ALateLockComesTooLate) {
  Start({"--lock=late"});
  EXPECT_EQ(Status(Header(VIRTIO_BLK_T_IN), 512), VIRTIO_BLK_S_OK);
  const std::unique_ptr<Program> first = std::move(program_);
  const gmem::UniqueFd its_session = std::move(session_socket_);
  program_ = StartProgram({"--lock=late"});
  ASSERT_NO_FATAL_FAILURE(Begin(kProtocol));
  ASSERT_NO_FATAL_FAILURE(StartQueue(0, /*base=*/1));
  EXPECT_EQ(Request(Header(VIRTIO_BLK_T_IN), 513), std::nullopt);
  EXPECT_TRUE(has_failed_);
}

}  // namespace
