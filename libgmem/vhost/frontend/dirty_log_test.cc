// SPDX-License-Identifier: MIT OR Apache-2.0
// The log of a back-end's writes: its memory, and the requests that turn logging on and off.
#include "gmem/vhost/dirty_log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::Received;
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

// The runs of pages: the first page, and the size in bytes.
std::vector<std::pair<uint64_t, uint64_t>> ReadLog(const DirtyLog& log) {
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  log.ReadAndClear([&](GuestRange range) {
    runs.emplace_back(range.start.value() / kLogPageSize, range.size.value());
  });
  return runs;
}

TEST(DirtyLogTest, RunsOfPages) {
  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  EXPECT_EQ(log.area().mmap_size, 32768u);
  Mapping theirs = *Mapping::OfFile(log.fd(), {.size = ByteSize(log.area().mmap_size)});
  EXPECT_THAT(ReadLog(log), IsEmpty());
  theirs.data()[0] = 0x81;
  theirs.data()[1] = 0x01;
  theirs.data()[7] = 0x80;
  theirs.data()[8] = 0x01;
  theirs.data()[32767] = 0x80;
  EXPECT_THAT(ReadLog(log), ElementsAre(std::pair(0, 4096), std::pair(7, 8192), std::pair(63, 8192),
                                        std::pair((1 << 18) - 1, 4096)));
  EXPECT_THAT(ReadLog(log), IsEmpty());
}

TEST(DirtyLogTest, EndsWhereMemoryEnds) {
  const DirtyLog log = *DirtyLog::Create(GuestAddress(3 * 4096 + 1));
  Mapping theirs = *Mapping::OfFile(log.fd(), {.size = ByteSize(log.area().mmap_size)});
  // A back-end that sets bits of pages beyond the end.
  memset(theirs.data(), 0xff, theirs.size());
  EXPECT_THAT(ReadLog(log), ElementsAre(std::pair(0, 3 * 4096 + 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(DirtyLog::Create(GuestAddress(0)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(DirtyLog::Create(DirtyLog::kMaxEnd + ByteSize(1)).status()));
  // No back-end can shorten the file.
  EXPECT_NE(ftruncate(log.fd(), 0), 0);
}

class LogTest : public FrontendTest {
 protected:
  static constexpr uint64_t kLog = Bit(VirtioFeature::kLogAll);
  static FakeBackend::Options Backend() {
    return {.features = Bit(VirtioFeature::kProtocolFeatures) | kLog,
            .protocol_features = Bit(ProtocolFeature::kReplyAck) | Bit(ProtocolFeature::kLogShmfd)};
  }
  uint64_t SentFeatures() { return backend_->Last(Request::kSetFeatures).As<uint64_t>(); }
};

TEST_F(LogTest, StartsAndStops) {
  StartNegotiated(Backend());
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  VringAddress address = {};
  address.index = 1;
  address.log = 0x5000;
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, 0u);
  backend_->TakeRequests();

  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  ASSERT_TRUE(frontend_->StartLog(log).ok());
  EXPECT_THAT(backend_->TakeRequests(),
              ElementsAre(Request::kSetLogBase, Request::kSetFeatures, Request::kSetVringAddr));
  const Received base = backend_->Last(Request::kSetLogBase);
  EXPECT_EQ(base.nr_fds, 1u);
  EXPECT_EQ(base.As<LogArea>().mmap_size, 32768u);
  EXPECT_EQ(base.As<LogArea>().mmap_offset, 0u);
  EXPECT_NE(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, kVringLog);

  // A driver that starts again doesn't know of the log.
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  EXPECT_NE(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);

  ASSERT_TRUE(frontend_->StopLog().ok());
  EXPECT_EQ(backend_->Last(Request::kSetFeatures).As<uint64_t>() & kLog, 0u);
  EXPECT_EQ(backend_->Last(Request::kSetVringAddr).As<VringAddress>().flags, 0u);
}

// The back-end logs its writes, except to this virtqueue: StopLog() must end that, too.
TEST_F(LogTest, StopsALogThatStartedHalf) {
  FakeBackend::Options options = Backend();
  options.handlers[Request::kSetVringAddr] = [](FakeBackend& backend, Message& message) {
    const bool logs = FromBytes<VringAddress>(message.bytes()).flags != 0;
    backend.Reply(message, AsBytes(uint64_t{logs ? EINVAL : 0u}));
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  VringAddress address = {};
  address.log = 0x5000;
  ASSERT_TRUE(frontend_->SetVringAddr(address).ok());
  const DirtyLog log = *DirtyLog::Create(GuestAddress(1 << 30));
  EXPECT_FALSE(frontend_->StartLog(log).ok());
  EXPECT_NE(SentFeatures() & kLog, 0u);
  ASSERT_TRUE(frontend_->StopLog().ok());
  EXPECT_EQ(SentFeatures() & kLog, 0u);
  EXPECT_EQ(frontend_->acked_features() & kLog, 0u);
}

TEST_F(LogTest, TheFirstLogStaysIfTheSecondFails) {
  FakeBackend::Options options = Backend();
  std::atomic<int> count = 0;
  options.handlers[Request::kSetLogBase] = [&](FakeBackend& backend, Message& message) {
    if (++count > 1) return backend.Close();
    backend.Answer(message);
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->SetFeatures(0).ok());
  const DirtyLog first = *DirtyLog::Create(GuestAddress(1 << 30));
  const DirtyLog second = *DirtyLog::Create(GuestAddress(uint64_t{1} << 32));
  ASSERT_TRUE(frontend_->StartLog(first).ok());
  EXPECT_FALSE(frontend_->StartLog(second).ok());
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(backend_->Last(Request::kSetLogBase).As<LogArea>().mmap_size, first.area().mmap_size);
  EXPECT_NE(SentFeatures() & kLog, 0u);
}

}  // namespace
}  // namespace gmem::vhost
