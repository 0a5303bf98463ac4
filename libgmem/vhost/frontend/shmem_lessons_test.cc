// SPDX-License-Identifier: MIT OR Apache-2.0
// V4 and V5 of Documentation/lessons.rst: defects that other front-ends had in their shared memory
// regions.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shmem.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::CanRead;
using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::MakeFile;
using doubles::RunUntil;

constexpr uint64_t kPage = 4096;
constexpr uint8_t kShmid = 3;
constexpr uint64_t kRegionSize = 12 * kPage;

// One page of a file, in the middle of the region.
constexpr ShmemMapping kMapping = {.shmid = kShmid,
                                   .padding = {},
                                   .fd_offset = 0,
                                   .shm_offset = 5 * kPage,
                                   .len = kPage,
                                   .flags = kShmemMapRw};
constexpr ByteOffset kOffset(kMapping.shm_offset);

ShmemConfig OneRegion() {
  ShmemConfig config = {};
  config.nr_regions = 1;
  config.sizes[kShmid] = kRegionSize;
  return config;
}

int64_t CountMappings() {
  std::ifstream maps("/proc/self/maps");
  return std::count(std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>(), '\n');
}

// V4: map and unmap the same place very often.
TEST(ShmemRegionsLessonsTest, UnmapsOncePerMapping) {
  constexpr int kTurns = 100000;
  ShmemRegions regions([](uint8_t, ByteSize size) { return NewHostRegion(size); });
  ASSERT_TRUE(regions.Configure(OneRegion()).ok());
  const UniqueFd file = MakeFile(ByteSize(kPage), "content");
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC), 0);
  const UniqueFd out(pipe_fds[0]), in(pipe_fds[1]);
  const size_t fds = CountOpenFds();
  const int64_t mappings = CountMappings();
  for (int turn = 0; turn < kTurns; turn++) {
    ASSERT_TRUE(regions.Map(kMapping, file.get()).ok()) << turn;
    const uint8_t* const address = regions.HostAddress(kShmid, kOffset);
    ASSERT_NE(address, nullptr) << turn;
    ASSERT_EQ(*address, 'c') << turn;
    ASSERT_TRUE(regions.Unmap(kMapping).ok()) << turn;
    // The kernel reads the address for the pipe: that fails where nothing is mapped.
    ASSERT_EQ(write(in.get(), address, 1), -1) << turn;
    ASSERT_EQ(errno, EFAULT) << turn;
    ASSERT_EQ(regions.HostAddress(kShmid, kOffset), nullptr) << turn;
  }
  EXPECT_TRUE(absl::IsNotFound(regions.Unmap(kMapping)));
  EXPECT_EQ(regions.nr_mappings(), 0U);
  EXPECT_EQ(CountOpenFds(), fds);
  EXPECT_EQ(CountMappings(), mappings);
}

// Has a front-end whose back-end has one shared memory region.
class ShmemLessonsTest : public FrontendTest {
 protected:
  static FakeBackend::Options Backend() {
    return {.protocol_features = Frontend::kDefaultProtocolFeatures, .shmem = OneRegion()};
  }
  void SetUp() override { StartNegotiated(Backend(), AllOptions()); }

  // Returns the address of the mapping, which it makes as a back-end should.
  const uint8_t* Map() {
    OnBackend([this](FakeBackend& b) {
      const int fd = file_.get();
      EXPECT_EQ(b.Ask(BackendRequest::kShmemMap, AsBytes(kMapping), {&fd, 1}), 0U);
    });
    return frontend_->shmem().HostAddress(kShmid, kOffset);
  }
  // Sends a whole SHMEM_MAP with its descriptor, and then runs @p end instead of a wait for the
  // reply. The front-end sees nothing of that before both are done.
  void SendMapAnd(void (*end)(FakeBackend&)) {
    backend_->Post([this, end](FakeBackend& b) {
      const int fd = file_.get();
      b.Send(BackendRequest::kShmemMap, AsBytes(kMapping), {&fd, 1});
      end(b);
    });
    // Waits for the task.
    backend_->TakeRequests();
  }

  const UniqueFd file_ = MakeFile(ByteSize(kPage), "content");
};

// V5: the front-end can't send its reply to a mapping that it has made.
TEST_F(ShmemLessonsTest, ReplyToAMapHasNoReader) {
  const uint8_t* const address = Map();
  ASSERT_NE(address, nullptr);
  const auto close_channel = [](FakeBackend& b) { b.CloseBackendChannel(); };
  const auto close_all = [](FakeBackend& b) { b.Close(); };
  for (void (*const end)(FakeBackend&) : {+close_channel, +close_all}) {
    ASSERT_TRUE(frontend_->ResetDevice().ok());
    ASSERT_FALSE(CanRead(address));
    const size_t fds = CountOpenFds();
    SendMapAnd(end);
    ASSERT_TRUE(RunUntil(*frontend_, [this] { return !frontend_->backend_channel_status().ok(); }));

    EXPECT_EQ(frontend_->nr_refused(), 0U);
    EXPECT_EQ(frontend_->shmem().nr_mappings(), 0U);
    EXPECT_FALSE(frontend_->shmem().Find(kShmid, kOffset).has_value());
    EXPECT_FALSE(CanRead(address));

    ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
    EXPECT_EQ(CountOpenFds(), fds);
    EXPECT_EQ(Map(), address);
    EXPECT_TRUE(CanRead(address));
  }
}

}  // namespace
}  // namespace gmem::vhost
