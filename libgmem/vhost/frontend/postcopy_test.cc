// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/postcopy.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/regions.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::kPatience;
using doubles::kPatienceMilliseconds;
using doubles::RegionsTest;
using testing::ElementsAre;
using Request = FrontendRequest;

constexpr uint64_t kAck = Bit(ProtocolFeature::kReplyAck);
constexpr uint64_t kSlots = Bit(ProtocolFeature::kConfigureMemSlots);

// With a real userfaultfd: a back-end sleeps at a missing page until the page arrives. With whole
// tables, or by difference.
class PostcopyTest : public RegionsTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    FakeBackend::Options options = {.protocol_features = kAck | Bit(ProtocolFeature::kPagefault) |
                                                         (GetParam() ? kSlots : 0)};
    options.handlers[Request::kPostcopyAdvise] = [this](FakeBackend& backend, Message& message) {
      uffd_ = UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
      uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM, .ioctls = 0};
      ASSERT_EQ(ioctl(uffd_.get(), UFFDIO_API, &api), 0);
      const int fd = uffd_.get();
      backend.Reply(message, {}, {&fd, 1});
    };
    options.handlers[Request::kSetMemTable] = [this](FakeBackend& backend, Message& message) {
      if (message.header.size == sizeof(uint64_t)) {
        nr_acks_++;
        return;
      }
      auto table = FromBytes<MemoryTable>(message.bytes());
      for (size_t i = 0; i < table.nr_regions; i++) {
        table.regions[i].user_address = MapClient(table.regions[i], message.fds.get(i));
      }
      backend.Reply(message, AsBytes(table));
    };
    options.handlers[Request::kAddMemReg] = [this](FakeBackend& backend, Message& message) {
      if (message.header.size == sizeof(uint64_t)) {
        nr_acks_++;
        return;
      }
      auto single = FromBytes<SingleMemoryRegion>(message.bytes());
      single.region.user_address = MapClient(single.region, message.fds.get(0));
      backend.Reply(message, AsBytes(single));
    };
    StartNegotiated(std::move(options));
  }

  uint64_t MapClient(const MemoryRegion& region, int fd) {
    clients_.push_back(*Mapping::OfFile(
        fd, {.offset = ByteOffset(region.mmap_offset), .size = ByteSize(region.size)}));
    const auto address = reinterpret_cast<uint64_t>(clients_.back().data());
    uffdio_register reg = {.range = {.start = address, .len = region.size},
                           .mode = UFFDIO_REGISTER_MODE_MISSING,
                           .ioctls = 0};
    EXPECT_EQ(ioctl(uffd_.get(), UFFDIO_REGISTER, &reg), 0);
    return address;
  }

  UniqueFd uffd_;
  std::vector<Mapping> clients_;
  std::atomic<int> nr_acks_ = 0;
};

TEST_P(PostcopyTest, APageArrivesWhenItIsTouched) {
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->PostcopyListen()));
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_TRUE(frontend_->faults().ok());
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  ASSERT_TRUE(frontend_->SetMemory(Regions({3, 7})).ok());
  backend_->TakeRequests();
  EXPECT_EQ(nr_acks_, 1);
  ASSERT_EQ(clients_.size(), 2u);
  EXPECT_EQ(*frontend_->memory()[1].client_address, reinterpret_cast<uint64_t>(clients_[1].data()));

  std::atomic<int> seen = -1;
  std::thread toucher([&] { seen = *static_cast<volatile uint8_t*>(clients_[1].data() + 42); });
  pollfd polled = {.fd = (*frontend_->faults())->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&polled, 1, kPatienceMilliseconds), 1);
  const auto fault = (*frontend_->faults())->Next(frontend_->memory());
  ASSERT_TRUE(fault.ok() && fault->has_value()) << fault.status();
  EXPECT_EQ((*fault)->guest_address, GuestAddress(7 << 20));
  EXPECT_FALSE((*fault)->write);
  EXPECT_EQ(seen, -1);
  // The page arrives; wake the thread that waits for it.
  ASSERT_EQ(pwrite(file_.get(), "x", 1, 7 * 4096 + 42), 1);
  ASSERT_TRUE(
      (*frontend_->faults())->Wake(frontend_->memory(), {GuestAddress(7 << 20), KiB(4)}).ok());
  toucher.join();
  EXPECT_EQ(seen, 'x');
  EXPECT_FALSE((*frontend_->faults())->Next(frontend_->memory())->has_value());

  ASSERT_TRUE(frontend_->PostcopyEnd().ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->faults().status()));
  EXPECT_FALSE(frontend_->memory()[0].client_address.has_value());
}

INSTANTIATE_TEST_SUITE_P(TableOrSlots, PostcopyTest, testing::Bool());

UniqueFd NewUserfaultfd(uint64_t features) {
  UniqueFd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api = {.api = UFFD_API, .features = features, .ioctls = 0};
  EXPECT_EQ(ioctl(fd.get(), UFFDIO_API, &api), 0);
  return fd;
}

class PostcopyErrorsTest : public RegionsTest {};

// The back-end's address of a guest page isn't the start of a page.
TEST_F(PostcopyErrorsTest, RefusesAddressesBetweenPages) {
  const UniqueFd uffd = NewUserfaultfd(0);
  FakeBackend::Options options = {.protocol_features =
                                      kAck | kSlots | Bit(ProtocolFeature::kPagefault)};
  options.handlers[Request::kPostcopyAdvise] = [&](FakeBackend& backend, Message& message) {
    const int fd = uffd.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  options.handlers[Request::kAddMemReg] = [](FakeBackend& backend, Message& message) {
    auto single = FromBytes<SingleMemoryRegion>(message.bytes());
    single.region.user_address = 0x10001;
    backend.Reply(message, AsBytes(single));
  };
  StartNegotiated(std::move(options));
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  EXPECT_EQ(GetErrno(frontend_->SetMemory({Region(1)})), EIO);
}

// A back-end treats the next message after a table as its acknowledgement.
TEST_F(PostcopyErrorsTest, SendsNothingBeforeATableIsAcknowledged) {
  const UniqueFd uffd = NewUserfaultfd(0);
  FakeBackend::Options options = {
      .protocol_features = kAck | kSlots | Bit(ProtocolFeature::kPagefault) |
                           Bit(ProtocolFeature::kConfig) | Bit(ProtocolFeature::kBackendReq) |
                           Bit(ProtocolFeature::kSharedObject)};
  options.handlers[Request::kPostcopyAdvise] = [&](FakeBackend& backend, Message& message) {
    const int fd = uffd.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  uint64_t answer = 0;
  options.handlers[Request::kAddMemReg] = [&](FakeBackend& backend, Message& message) {
    if (message.header.size == sizeof(uint64_t)) return;
    EXPECT_EQ(backend.Ask(BackendRequest::kConfigChangeMsg, {}), 0u);
    answer = backend.Ask(BackendRequest::kSharedObjectAdd, AsBytes(Uuid{1}));
    auto single = FromBytes<SingleMemoryRegion>(message.bytes());
    single.region.user_address = 0x10000;
    backend.Reply(message, AsBytes(single));
  };
  StartNegotiated(std::move(options), AllOptions());
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  ASSERT_TRUE(frontend_->PostcopyListen().ok());
  backend_->TakeRequests();
  // A callback's try to set the memory, which is refused, doesn't change that.
  handler_.then = [this] {
    EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->SetMemory({Region(2)})));
    return absl::OkStatus();
  };
  ASSERT_TRUE(frontend_->SetMemory({Region(1)}).ok());
  handler_.then = nullptr;
  EXPECT_THAT(handler_.Take(), ElementsAre("config"));
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kAddMemReg, Request::kAddMemReg));
  EXPECT_EQ(answer, uint64_t{EBUSY});
  OnBackend([](FakeBackend& b) {
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectAdd, AsBytes(Uuid{1})), 0u);
  });
}

// The end of a connection ends postcopy, even right after the back-end has agreed to it.
TEST_F(PostcopyErrorsTest, TheNextBackendStartsWithoutPostcopy) {
  const UniqueFd uffd = NewUserfaultfd(0);
  const auto backend = [&] {
    FakeBackend::Options options = {
        .protocol_features = kAck | kSlots | Bit(ProtocolFeature::kPagefault) |
                             Bit(ProtocolFeature::kConfig) | Bit(ProtocolFeature::kBackendReq)};
    options.handlers[Request::kPostcopyAdvise] = [&uffd](FakeBackend& b, Message& message) {
      const int fd = uffd.get();
      b.Reply(message, {}, {&fd, 1});
    };
    return options;
  };
  FakeBackend::Options options = backend();
  CloseRightAfter(Request::kPostcopyAdvise, options);
  StartNegotiated(std::move(options));
  EXPECT_TRUE(absl::IsUnavailable(frontend_->PostcopyAdvise()));
  EXPECT_TRUE(absl::IsUnavailable(frontend_->faults().status()));

  options = backend();
  CloseRightAfter(Request::kPostcopyListen, options);
  ASSERT_TRUE(frontend_->Reconnect(NewBackend(std::move(options))).ok());
  ASSERT_TRUE(frontend_->PostcopyAdvise().ok());
  EXPECT_TRUE(absl::IsUnavailable(frontend_->PostcopyListen()));
  EXPECT_TRUE(absl::IsUnavailable(frontend_->faults().status()));

  ASSERT_TRUE(frontend_->Reconnect(NewBackend(backend())).ok());
  EXPECT_TRUE(frontend_->SetMemory({Region(1)}).ok());
}

TEST_F(PostcopyErrorsTest, RefusesADescriptorThatIsNoUserfaultfd) {
  FakeBackend::Options options = {.protocol_features = kAck | Bit(ProtocolFeature::kPagefault)};
  options.handlers[Request::kPostcopyAdvise] = [this](FakeBackend& backend, Message& message) {
    // A read from this file would return data that is no event.
    const int fd = file_.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  StartNegotiated(std::move(options));
  const size_t before = CountOpenFds();
  EXPECT_TRUE(absl::IsInvalidArgument(frontend_->PostcopyAdvise()));
  EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->faults().status()));
  EXPECT_EQ(CountOpenFds(), before);
}

// The back-end shares the open file, and may make it blocking at any time.
TEST(FaultsTest, ABlockingUserfaultfdIsRefused) {
  const UniqueFd theirs = NewUserfaultfd(0);
  const Faults faults = *Faults::Adopt(*theirs.Duplicate());
  EXPECT_FALSE(faults.Next({})->has_value());
  ASSERT_EQ(fcntl(theirs.get(), F_SETFL, 0), 0);
  EXPECT_EQ(GetErrno(faults.Next({}).status()), EBADF);
}

// Does this thread sleep?
bool Waits(pid_t tid) {
  std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(") ");
  return name_end != std::string::npos && (line[name_end + 2] == 'S' || line[name_end + 2] == 'D');
}

// A back-end can cause any number of other events, without any missing page.
TEST(FaultsTest, OtherEventsAreLimited) {
  constexpr int kThreads = 100;
  constexpr size_t kPage = 4096;
  UniqueFd theirs = NewUserfaultfd(UFFD_FEATURE_EVENT_REMOVE);
  std::optional<Faults> faults = *Faults::Adopt(*theirs.Duplicate());
  auto* const memory = static_cast<uint8_t*>(
      mmap(nullptr, kThreads * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  uffdio_register reg = {
      .range = {.start = reinterpret_cast<uint64_t>(memory), .len = kThreads * kPage},
      .mode = UFFDIO_REGISTER_MODE_MISSING,
      .ioctls = 0};
  ASSERT_EQ(ioctl(theirs.get(), UFFDIO_REGISTER, &reg), 0);
  std::array<std::atomic<pid_t>, kThreads> tids = {};
  std::atomic<int> ended = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; i++) {
    threads.emplace_back([&, i] {
      tids[static_cast<size_t>(i)] = gettid();
      madvise(memory + static_cast<size_t>(i) * kPage, kPage, MADV_DONTNEED);
      ended++;
    });
  }
  const auto nr_waiting = [&tids] {
    return std::count_if(tids.begin(), tids.end(), [](const auto& tid) { return Waits(tid); });
  };
  const absl::Time give_up = absl::Now() + kPatience;
  // Reading one event wakes all threads; the others go back to sleep.
  const auto have_settled = [&] {
    while (nr_waiting() + ended < kThreads) {
      if (absl::Now() > give_up) return false;
      absl::SleepFor(absl::Milliseconds(1));
    }
    return true;
  };
  EXPECT_TRUE(have_settled());
  EXPECT_EQ(ended, 0);
  EXPECT_FALSE(faults->Next({})->has_value());
  EXPECT_TRUE(have_settled());
  EXPECT_LE(ended, Faults::kMaxEventsAtOnce);
  while (ended < kThreads && absl::Now() < give_up) EXPECT_FALSE(faults->Next({})->has_value());
  EXPECT_EQ(ended, kThreads);
  // Closing the userfaultfd wakes all threads, even if the test has failed.
  faults.reset();
  theirs.reset();
  for (std::thread& thread : threads) thread.join();
  munmap(memory, kThreads * kPage);
}

}  // namespace
}  // namespace gmem::vhost
