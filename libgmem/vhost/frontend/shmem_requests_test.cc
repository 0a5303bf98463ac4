// SPDX-License-Identifier: MIT OR Apache-2.0
// SHMEM_MAP and SHMEM_UNMAP from a back-end, and the ends of mappings.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmem/status.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/shmem.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::CanRead;
using doubles::CanWrite;
using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::MakeFile;
using doubles::RunUntil;
using doubles::RunUntilEnd;
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kOffered = (uint64_t{1} << 23) - 1;
constexpr uint64_t kPage = 4096;
// A size that is no power of two (Q3), and an index that isn't 0.
constexpr uint8_t kShmid = 3;
constexpr uint64_t kRegionSize = 12 * kPage;

class ShmemTest : public FrontendTest {
 protected:
  static FakeBackend::Options Backend() {
    FakeBackend::Options options = {.protocol_features = kOffered};
    options.shmem.nr_regions = 1;
    options.shmem.sizes[kShmid] = kRegionSize;
    return options;
  }
  void SetUp() override { StartNegotiated(Backend(), AllOptions()); }

  static ShmemMapping At(uint64_t page, uint64_t pages = 1, uint64_t flags = kShmemMapRw) {
    return {.shmid = kShmid,
            .padding = {},
            .fd_offset = 0,
            .shm_offset = page * kPage,
            .len = pages * kPage,
            .flags = flags};
  }
  uint64_t Ask(BackendRequest request, const ShmemMapping& mapping, std::vector<int> fds = {}) {
    uint64_t answer = 0;
    OnBackend([&](FakeBackend& b) { answer = b.Ask(request, AsBytes(mapping), fds); });
    return answer;
  }
  uint64_t Map(const ShmemMapping& mapping) { return Map(mapping, {file_.get()}); }
  uint64_t Map(const ShmemMapping& mapping, std::vector<int> fds) {
    return Ask(BackendRequest::kShmemMap, mapping, std::move(fds));
  }
  uint64_t Unmap(const ShmemMapping& mapping) { return Ask(BackendRequest::kShmemUnmap, mapping); }
  uint8_t* Host(uint64_t page) {
    return frontend_->shmem().HostAddress(kShmid, ByteOffset(page * kPage));
  }

  const UniqueFd file_ = MakeFile(MiB(1), "content");
};

// Mapping works before DRIVER_OK, too (Q1).
TEST_F(ShmemTest, MapsAndUnmaps) {
  EXPECT_EQ(frontend_->shmem().size(kShmid), ByteSize(kRegionSize));
  EXPECT_EQ(Host(2), nullptr);
  ASSERT_EQ(Map(At(2, 2)), 0u);
  ASSERT_NE(Host(2), nullptr);
  EXPECT_TRUE(CanRead(Host(2)) && CanWrite(Host(3)));
  EXPECT_STREQ(reinterpret_cast<char*>(Host(2)), "content");
  EXPECT_EQ(frontend_->shmem().HostAddress(kShmid, ByteOffset(2 * kPage + 5)), Host(2) + 5);
  // Writes go both ways.
  *Host(3) = 'Z';
  char byte = 0;
  ASSERT_EQ(pread(file_.get(), &byte, 1, kPage), 1);
  EXPECT_EQ(byte, 'Z');
  EXPECT_EQ(Host(4), nullptr);
  EXPECT_EQ(frontend_->shmem().Find(kShmid, ByteOffset(3 * kPage))->range.start,
            ByteOffset(2 * kPage));

  uint8_t* const was = Host(2);
  ASSERT_EQ(Unmap(At(2, 2)), 0u);
  EXPECT_EQ(Host(2), nullptr);
  EXPECT_FALSE(CanRead(was));
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
  EXPECT_EQ(frontend_->nr_refused(), 0u);
}

TEST_F(ShmemTest, RefusesBadRequests) {
  ASSERT_EQ(Map(At(4, 2)), 0u);
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC), 0);
  const UniqueFd out(pipe_fds[0]), in(pipe_fds[1]);
  const UniqueFd small = MakeFile(ByteSize(kPage));
  const size_t before = CountOpenFds();

  ShmemMapping other_shmid = At(0), padding = At(0), file_offset = At(0), wraps = At(0),
               length = At(0), offset = At(0);
  other_shmid.shmid = 0;
  padding.padding[6] = 1;
  file_offset.fd_offset = 100;
  wraps.fd_offset = ~uint64_t{0} & ~(kPage - 1);
  length.len = 100;
  offset.shm_offset = 100;
  ShmemMapping huge = At(1);
  huge.len = ~uint64_t{0} & ~(kPage - 1);
  for (const ShmemMapping& bad : {other_shmid, padding, file_offset, wraps, length, offset, huge}) {
    EXPECT_NE(Map(bad), 0u);
  }
  EXPECT_NE(Map(At(0, 0)), 0u);
  EXPECT_NE(Map(At(0, 1, 2)), 0u);
  EXPECT_NE(Map(At(12)), 0u);
  EXPECT_NE(Map(At(11, 2)), 0u);
  for (const uint64_t page : {3u, 4u, 5u}) EXPECT_EQ(Map(At(page, 2)), uint64_t{EEXIST}) << page;
  EXPECT_NE(Map(At(0, 12)), 0u);
  EXPECT_NE(Map(At(0), {}), 0u);
  EXPECT_NE(Map(At(0), {file_.get(), file_.get()}), 0u);
  EXPECT_NE(Map(At(0), {in.get()}), 0u);
  EXPECT_NE(Map(At(0, 2), {small.get()}), 0u);
  EXPECT_NE(Unmap(At(0)), 0u);
  EXPECT_NE(Unmap(At(4)), 0u);
  EXPECT_NE(Unmap(At(5)), 0u);
  EXPECT_NE(Unmap(At(4, 3)), 0u);

  // Nothing changed, nothing leaked, and the channel lives.
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 1u);
  EXPECT_EQ(CountOpenFds(), before);
  EXPECT_TRUE(frontend_->backend_channel_status().ok());
  EXPECT_GT(frontend_->nr_refused(), 20u);
  EXPECT_EQ(Map(At(0)), 0u);
  EXPECT_EQ(Unmap(At(4, 2)), 0u);
}

// Read-only is enforced, and a read-only descriptor is enough (Q4).
TEST_F(ShmemTest, ReadOnly) {
  const UniqueFd readonly(
      open(("/proc/self/fd/" + std::to_string(file_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(readonly.is_valid());
  ASSERT_EQ(Map(At(0, 1, 0), {readonly.get()}), 0u);
  ASSERT_EQ(Map(At(1, 1, 0)), 0u);
  EXPECT_NE(Map(At(2, 1, kShmemMapRw), {readonly.get()}), 0u);
  EXPECT_STREQ(reinterpret_cast<char*>(Host(0)), "content");
  EXPECT_FALSE(CanWrite(Host(0)));
  EXPECT_FALSE(CanWrite(Host(1)));
  EXPECT_EQ(frontend_->shmem().Find(kShmid, ByteOffset(0))->access, MemoryAccess::kReadOnly);
}

// A reset unmaps, and later requests find the region empty (Q1 and Q2).
TEST_F(ShmemTest, ResetUnmaps) {
  for (const bool by_status : {false, true}) {
    ASSERT_EQ(Map(At(1)), 0u);
    ASSERT_TRUE((by_status ? frontend_->SetStatus(0) : frontend_->ResetDevice()).ok());
    EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
    ASSERT_TRUE(frontend_->SetFeatures(0).ok());
    ASSERT_TRUE(frontend_->DriverOk().ok());
    EXPECT_NE(Unmap(At(1)), 0u);
    EXPECT_EQ(Map(At(1)), 0u);
    EXPECT_EQ(Unmap(At(1)), 0u);
  }
}

// A mapping that follows the answer to a reset belongs to the device's new life, and stays.
TEST_F(ShmemTest, MapRightBehindAReset) {
  FakeBackend::Options options = Backend();
  options.protocol_features &= ~Bit(ProtocolFeature::kStatus);
  options.handlers[Request::kResetDevice] = [this](FakeBackend& b, Message& message) {
    const int fd = file_.get();
    b.Answer(message);
    b.Send(BackendRequest::kShmemMap, AsBytes(At(1)), {&fd, 1});
  };
  StartNegotiated(std::move(options), AllOptions());
  for (int i = 0; i < 300; i++) {
    ASSERT_TRUE(frontend_->ResetDevice().ok());
    OnBackend([](FakeBackend& b) { ASSERT_EQ(b.ReceiveReply(), 0u); });
    ASSERT_EQ(frontend_->shmem().nr_mappings(), 1u) << i;
  }
}

// A mapping keeps its file open without a descriptor.
TEST_F(ShmemTest, NoDescriptorOutlivesItsRequest) {
  FakeBackend::Options options = Backend();
  options.handlers[Request::kGetSharedObject] = [this](FakeBackend& b, Message& message) {
    const int fd = file_.get();
    b.Reply(message, {}, {&fd, 1});
  };
  StartNegotiated(std::move(options), AllOptions());
  const size_t before = CountOpenFds();
  EXPECT_EQ(Map(At(1)), 0u);
  EXPECT_EQ(CountOpenFds(), before);
  EXPECT_TRUE(frontend_->Call<Request::kGetSharedObject>(Uuid{}).ok());
  EXPECT_EQ(CountOpenFds(), before);
}

// The end of the connection unmaps (Q8).
TEST_F(ShmemTest, DisconnectionUnmaps) {
  ASSERT_EQ(Map(At(1)), 0u);
  uint8_t* const was = Host(1);
  backend_->Post([](FakeBackend& b) { b.Close(); });
  ASSERT_TRUE(RunUntilEnd(*frontend_));
  EXPECT_EQ(GetErrno(frontend_->status()), ECONNRESET);
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
  EXPECT_FALSE(CanRead(was));
  EXPECT_THAT(handler_.Take(), ElementsAre("end"));
  // The handler learns of the end once.
  EXPECT_FALSE(frontend_->Process().ok());
  EXPECT_FALSE(frontend_->SetMtu(1).ok());
  EXPECT_THAT(handler_.Take(), IsEmpty());

  ASSERT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
  EXPECT_EQ(Map(At(1)), 0u);
  EXPECT_EQ(Host(1), was);
}

TEST_F(ShmemTest, SizesAreFixed) {
  FakeBackend::Options other = Backend();
  other.shmem.sizes[kShmid] += kPage;
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Reconnect(NewBackend(std::move(other)))));
  EXPECT_FALSE(frontend_->status().ok());
  EXPECT_TRUE(frontend_->Reconnect(NewBackend(Backend())).ok());
}

TEST_F(ShmemTest, BadConfigurations) {
  FakeBackend::Options uneven = Backend(), miscounted = Backend();
  uneven.shmem.sizes[7] = 100;
  uneven.shmem.nr_regions = 2;
  miscounted.shmem.nr_regions = 2;
  for (const FakeBackend::Options& options : {uneven, miscounted}) {
    Start(options, AllOptions());
    EXPECT_EQ(GetErrno(frontend_->Negotiate()), EBADMSG);
    EXPECT_EQ(GetErrno(frontend_->status()), EBADMSG);
  }
}

// The factory is a callback like any other.
TEST_F(ShmemTest, FactoriesStartButDontWait) {
  Frontend::Options options = AllOptions();
  options.shmem_factory = [this](uint8_t, ByteSize size) {
    EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Process()));
    EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->GetStatus().status()));
    frontend_->Close();
    EXPECT_TRUE(frontend_->status().ok());
    return NewHostRegion(size);
  };
  Start(Backend(), std::move(options));
  EXPECT_TRUE(absl::IsCancelled(frontend_->Negotiate()));
  EXPECT_TRUE(absl::IsCancelled(frontend_->status()));
  EXPECT_THAT(handler_.Take(), ElementsAre("end"));
}

// An object that came by the channel of the first try goes with that channel.
TEST_F(ShmemTest, ASecondNegotiationStartsClean) {
  FakeBackend::Options options = Backend();
  bool is_first = true;
  options.handlers[Request::kSetOwner] = [&](FakeBackend& b, Message& message) {
    const uint64_t ack = is_first ? EINVAL : 0;
    if (is_first) {
      EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectAdd, AsBytes(Uuid{1})), 0u);
    }
    is_first = false;
    b.Reply(message, AsBytes(ack));
  };
  Start(std::move(options), AllOptions());
  EXPECT_EQ(GetErrno(frontend_->Negotiate()), EIO);
  EXPECT_EQ(objects_.size(), 1u);
  ASSERT_TRUE(frontend_->Negotiate().ok());
  EXPECT_EQ(objects_.size(), 0u);
  EXPECT_EQ(Map(At(1)), 0u);
}

TEST_F(ShmemTest, EndOfTheBackendChannelUnmaps) {
  ASSERT_EQ(Map(At(1)), 0u);
  OnBackend([](FakeBackend& b) { b.CloseBackendChannel(); });
  EXPECT_TRUE(RunUntil(*frontend_, [this] { return !frontend_->backend_channel_status().ok(); }));
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
  EXPECT_TRUE(frontend_->SetMtu(1500).ok());
}

TEST_F(ShmemTest, ManyMappings) {
  FakeBackend::Options options = Backend();
  constexpr uint64_t kCount = 5000;
  options.shmem.sizes[kShmid] = 2 * kCount * kPage;
  StartNegotiated(std::move(options), AllOptions());
  OnBackend([&](FakeBackend& b) {
    const int fd = file_.get();
    for (uint64_t i = 0; i < kCount; i++) {
      ASSERT_EQ(b.Ask(BackendRequest::kShmemMap, AsBytes(At(2 * i)), {&fd, 1}), 0u) << i;
    }
  });
  EXPECT_EQ(frontend_->shmem().nr_mappings(), kCount);
  EXPECT_NE(Host(2 * (kCount - 1)), nullptr);
  ASSERT_TRUE(frontend_->ResetDevice().ok());
  EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
}

// The back-end asks from inside its handler for a request of the front-end, and waits (Q9).
TEST_F(ShmemTest, MapFromInsideOfAHandler) {
  std::atomic<int> mapped = 0;
  FakeBackend::Options options = Backend();
  for (const Request request :
       {Request::kSetVringEnable, Request::kGetVringBase, Request::kAddMemReg}) {
    options.handlers[request] = [&](FakeBackend& b, Message& message) {
      const int fd = file_.get();
      if (b.Ask(BackendRequest::kShmemMap, AsBytes(At(1)), {&fd, 1}) == 0) mapped++;
      if (b.Ask(BackendRequest::kShmemUnmap, AsBytes(At(1))) == 0) mapped++;
      b.Answer(message);
    };
  }
  StartNegotiated(std::move(options), AllOptions());
  EXPECT_TRUE(frontend_->SetVringEnable(0, true).ok());
  EXPECT_EQ(mapped, 2);
  EXPECT_TRUE(frontend_->GetVringBase(0).ok());
  EXPECT_EQ(mapped, 4);
  EXPECT_TRUE(frontend_->SetMemory({{.size = KiB(4), .fd = file_.get()}}).ok());
  EXPECT_EQ(mapped, 6);
}

TEST_F(ShmemTest, NotNegotiatedIsRefused) {
  FakeBackend::Options options = Backend();
  options.protocol_features &= ~Bit(ProtocolFeature::kShmemMap);
  StartNegotiated(std::move(options), AllOptions());
  EXPECT_EQ(Map(At(0)), uint64_t{EOPNOTSUPP});
}

}  // namespace
}  // namespace gmem::vhost
