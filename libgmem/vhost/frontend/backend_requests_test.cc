// SPDX-License-Identifier: MIT OR Apache-2.0
// Notifications, host notifiers and shared objects from a back-end.
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shared_objects.h"
#include "gmock/gmock.h"
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
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kOffered = (uint64_t{1} << 23) - 1;
constexpr uint64_t kPage = 4096;

class NotificationTest : public FrontendTest {
 protected:
  static FakeBackend::Options Backend() {
    FakeBackend::Options options = {.protocol_features = kOffered};
    options.shmem.nr_regions = 1;
    options.shmem.sizes[0] = kPage;
    return options;
  }
  void SetUp() override { StartNegotiated(Backend(), AllOptions()); }

  template <typename Payload>
  uint64_t Tell(BackendRequest request, const Payload& payload, const std::vector<int>& fds = {}) {
    uint64_t answer = 0;
    OnBackend([&](FakeBackend& b) { answer = b.Ask(request, AsBytes(payload), fds); });
    return answer;
  }

  const UniqueFd file_ = MakeFile(MiB(1), "content");
};

TEST_F(NotificationTest, ReachTheHandler) {
  EXPECT_EQ(Tell(BackendRequest::kConfigChangeMsg, Empty()), 0u);
  EXPECT_EQ(Tell(BackendRequest::kVringCall, VringState{2, 0}), 0u);
  EXPECT_EQ(Tell(BackendRequest::kVringErr, VringState{3, 0}), 0u);
  IotlbMessage miss = {};
  miss.iova = 7;
  miss.type = IotlbType::kMiss;
  // The driver hasn't set the feature for translation.
  EXPECT_EQ(Tell(BackendRequest::kIotlbMsg, miss), uint64_t{EOPNOTSUPP});
  EXPECT_THAT(handler_.Take(), ElementsAre("config", "call 2", "err 3"));
  EXPECT_NE(Tell(BackendRequest::kVringCall, VringState{256, 0}), 0u);
  handler_.then = [] { return absl::InternalError("no"); };
  EXPECT_EQ(Tell(BackendRequest::kConfigChangeMsg, Empty()), uint64_t{EIO});
}

TEST_F(NotificationTest, OnlyMissesAreTranslated) {
  constexpr uint64_t kIommu = Bit(VirtioFeature::kIommuPlatform);
  FakeBackend::Options options = Backend();
  options.features |= kIommu;
  StartNegotiated(std::move(options), AllOptions());
  ASSERT_TRUE(frontend_->SetFeatures(kIommu).ok());
  const auto tell = [this](IotlbType type) {
    IotlbMessage message = {};
    message.iova = 7;
    message.type = type;
    return Tell(BackendRequest::kIotlbMsg, message);
  };
  EXPECT_EQ(tell(IotlbType::kMiss), 0u);
  EXPECT_EQ(tell(IotlbType::kAccessFail), 0u);
  EXPECT_THAT(handler_.Take(), ElementsAre("iotlb 7", "iotlb 7"));
  for (const IotlbType type : {IotlbType::kUpdate, IotlbType::kInvalidate, IotlbType(0xff)}) {
    EXPECT_EQ(tell(type), uint64_t{EINVAL});
  }
  EXPECT_THAT(handler_.Take(), IsEmpty());
}

TEST_F(NotificationTest, UnknownAndMalformedAreCounted) {
  OnBackend([](FakeBackend& b) {
    EXPECT_NE(b.Ask(BackendRequest(99), {}), 0u);
    EXPECT_NE(b.Ask(BackendRequest::kVringCall, AsBytes(uint32_t{1})), 0u);
    EXPECT_NE(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(uint32_t{1})), 0u);
    // This request asks for no answer.
    b.Send(BackendRequest(98), {}, {}, /*need_reply=*/false);
    EXPECT_EQ(b.Ask(BackendRequest::kConfigChangeMsg, {}), 0u);
  });
  EXPECT_EQ(frontend_->nr_refused(), 4u);
  EXPECT_TRUE(frontend_->backend_channel_status().ok());
}

// While the front-end waits for a reply, a handler starts another request, which goes behind.
TEST_F(NotificationTest, HandlersStartButDontWait) {
  absl::Status inside, later = absl::UnknownError("not done");
  handler_.then = [&] {
    inside = frontend_->SetMtu(1);
    frontend_->Start<Request::kNetSetMtu>(
        2, {}, [&](const absl::StatusOr<Message*>& reply) { later = reply.status(); });
    return absl::OkStatus();
  };
  FakeBackend::Options options = Backend();
  options.handlers[Request::kSetVringEnable] = [](FakeBackend& b, Message& message) {
    EXPECT_EQ(b.Ask(BackendRequest::kConfigChangeMsg, {}), 0u);
    b.Answer(message);
  };
  StartNegotiated(std::move(options), AllOptions());
  ASSERT_TRUE(frontend_->SetVringEnable(0, true).ok());
  EXPECT_TRUE(RunUntil(*frontend_, [&] { return !absl::IsUnknown(later); }));
  EXPECT_TRUE(absl::IsFailedPrecondition(inside));
  EXPECT_TRUE(later.ok()) << later;
  EXPECT_THAT(backend_->TakeRequests(), ElementsAre(Request::kSetVringEnable, Request::kNetSetMtu));
}

TEST_F(NotificationTest, HostNotifier) {
  const auto area = [](uint64_t vring, uint64_t size, uint64_t offset) {
    return VringArea{.vring = vring, .size = size, .offset = offset};
  };
  const auto request = BackendRequest::kVringHostNotifierMsg;
  EXPECT_EQ(Tell(request, area(1, kPage, 0), {file_.get()}), 0u);
  ASSERT_EQ(handler_.pages.size(), 1u);
  EXPECT_STREQ(reinterpret_cast<char*>(handler_.pages[0]), "content");
  // A new page replaces the old one.
  uint8_t* const old = handler_.pages[0];
  EXPECT_EQ(Tell(request, area(1, kPage, kPage), {file_.get()}), 0u);
  EXPECT_NE(handler_.pages[1], old);
  EXPECT_FALSE(CanRead(old));
  for (const VringArea& bad : {area(1, 2 * kPage, 0), area(1, 0, 0), area(1, kPage, 8),
                               area(1, kPage, ~(kPage - 1)), area(1, kPage, 1 << 20)}) {
    EXPECT_NE(Tell(request, bad, {file_.get()}), 0u);
  }
  EXPECT_THAT(handler_.Take(), ElementsAre("notifier 1", "notifier 1"));
  // The page goes with its virtqueue.
  ASSERT_TRUE(frontend_->GetVringBase(1).ok());
  EXPECT_THAT(handler_.Take(), ElementsAre("no notifier 1"));
  EXPECT_NE(Tell(request, area(1 | kVringNoFd, 0, 0)), 0u);
  EXPECT_EQ(Tell(request, area(2, kPage, 0), {file_.get()}), 0u);
  EXPECT_EQ(Tell(request, area(2 | kVringNoFd, 0, 0)), 0u);
  EXPECT_THAT(handler_.Take(), ElementsAre("notifier 2", "no notifier 2"));
}

// The destructor runs callbacks, which may still call methods.
TEST_F(NotificationTest, CallbacksOfTheDestructor) {
  const VringArea area = {.vring = 1, .size = kPage, .offset = 0};
  EXPECT_EQ(Tell(BackendRequest::kVringHostNotifierMsg, area, {file_.get()}), 0u);
  Frontend* const frontend = frontend_.get();
  bool has_run = false;
  absl::Status started;
  handler_.then = [&] {
    has_run = true;
    EXPECT_TRUE(absl::IsCancelled(frontend->status()));
    EXPECT_TRUE(absl::IsFailedPrecondition(frontend->Process()));
    EXPECT_TRUE(absl::IsFailedPrecondition(frontend->SetMtu(1)));
    EXPECT_EQ(frontend->shmem().nr_mappings(), 0u);
    frontend->Start<Request::kGetStatus>(
        {}, {}, [&](const absl::StatusOr<Message*>& reply) { started = reply.status(); });
    frontend->Close();
    return absl::OkStatus();
  };
  frontend_.reset();
  EXPECT_TRUE(has_run);
  EXPECT_TRUE(absl::IsCancelled(started)) << started;
}

TEST_F(NotificationTest, SharedObjects) {
  const Uuid ours = {1}, theirs = {2}, none = {3};
  ASSERT_TRUE(objects_.Add(ours, MakeFile(KiB(4), "vmm's")).ok());
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectAdd, theirs), 0u);
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectAdd, theirs), uint64_t{EEXIST});
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectRemove, ours), uint64_t{EACCES});
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectLookup, none), uint64_t{ENOENT});
  OnBackend([&](FakeBackend& b) {
    FdList fds;
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(ours), {}, &fds), 0u);
    std::array<char, 5> content;
    EXPECT_EQ(pread(fds.get(0), content.data(), 5, 0), 5);
    EXPECT_EQ(std::string(content.data(), 5), "vmm's");
  });
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectRemove, theirs), 0u);
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectAdd, theirs), 0u);
  EXPECT_EQ(objects_.size(), 2u);
  frontend_.reset();
  EXPECT_EQ(objects_.size(), 1u);
}

// sendmsg() can refuse a descriptor: here it isn't open; elsewhere, too many may be in flight.
TEST_F(NotificationTest, AnObjectThatCannotBeSent) {
  const Uuid uuid = {1};
  ASSERT_TRUE(objects_.Add(uuid, UniqueFd(1 << 20)).ok());
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectLookup, uuid), uint64_t{EBADF});
  const ShmemMapping mapping = {.shmid = 0,
                                .padding = {},
                                .fd_offset = 0,
                                .shm_offset = 0,
                                .len = kPage,
                                .flags = kShmemMapRw};
  EXPECT_EQ(Tell(BackendRequest::kShmemMap, mapping, {file_.get()}), 0u);
  EXPECT_TRUE(frontend_->backend_channel_status().ok());
  EXPECT_EQ(frontend_->nr_refused(), 1u);
}

// An owner's late answer for an object that it has removed doesn't go to the next object with the
// same UUID.
TEST_F(NotificationTest, SharedObjectsThatComeAndGo) {
  const Uuid uuid = {9};
  FakeBackend::Options options = Backend();
  std::vector<UniqueFd> files;
  options.handlers[Request::kGetSharedObject] = [&](FakeBackend& b, Message& message) {
    if (files.empty()) return b.Reply(message, {});
    const UniqueFd file = std::move(files.back());
    files.pop_back();
    const int fd = file.get();
    b.Reply(message, {}, {&fd, 1});
  };
  StartNegotiated(std::move(options), AllOptions());
  const size_t before = CountOpenFds();
  OnBackend([&](FakeBackend& b) {
    files.push_back(MakeFile(KiB(4), "new"));
    files.push_back(MakeFile(KiB(4), "old"));
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectAdd, AsBytes(uuid)), 0u);
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(uuid)), uint64_t{ENOENT});
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectRemove, AsBytes(uuid)), 0u);
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectAdd, AsBytes(uuid)), 0u);
  });
  ASSERT_TRUE(RunUntil(*frontend_, [&] { return objects_.Find(uuid) >= 0; }));
  std::array<char, 3> content;
  EXPECT_EQ(pread(objects_.Find(uuid), content.data(), 3, 0), 3);
  EXPECT_EQ(std::string(content.data(), 3), "new");
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectRemove, uuid), 0u);
  // An object whose owner sends no descriptor isn't found.
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectAdd, uuid), 0u);
  ASSERT_TRUE(frontend_->GetStatus().ok());
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectLookup, uuid), uint64_t{ENOENT});
  EXPECT_EQ(CountOpenFds(), before);
  for (uint8_t i = 1; i < SharedObjects::kMaxPerBackend; i++) {
    ASSERT_EQ(Tell(BackendRequest::kSharedObjectAdd, Uuid{0, i}), 0u);
  }
  EXPECT_EQ(Tell(BackendRequest::kSharedObjectAdd, Uuid{1, 1}), uint64_t{ENOSPC});
}

// An owner that adds an object and never sends its descriptor holds up no other back-end.
TEST_F(NotificationTest, AnOwnerThatNeverAnswers) {
  const Uuid uuid = {9};
  auto pair = *Connection::Pair();
  FakeBackend::Options exporter = {.protocol_features = kOffered};
  exporter.handlers[Request::kGetSharedObject] = [](FakeBackend&, Message&) {};
  FakeBackend other(std::move(pair.second), std::move(exporter));
  const auto owner = *Frontend::Create(std::move(pair.first), AllOptions());
  ASSERT_TRUE(owner->Negotiate().ok());
  other.Post([&](FakeBackend& b) { b.Send(BackendRequest::kSharedObjectAdd, AsBytes(uuid)); });
  ASSERT_TRUE(RunUntil(*owner, [this] { return objects_.size() == 1; }));

  FakeBackend::Options options = Backend();
  options.handlers[Request::kSetVringEnable] = [&](FakeBackend& b, Message& message) {
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(uuid)), uint64_t{ENOENT});
    b.Answer(message);
  };
  StartNegotiated(std::move(options), AllOptions());
  EXPECT_TRUE(frontend_->SetVringEnable(0, true).ok());
  EXPECT_TRUE(frontend_->status().ok());
}

// A back-end looks up another one's object, while its own front-end waits for an answer.
TEST_F(NotificationTest, SharedObjectOfAnotherDevice) {
  const Uuid uuid = {9};
  auto pair = *Connection::Pair();
  FakeBackend::Options exporter = {.protocol_features = kOffered};
  exporter.handlers[Request::kGetSharedObject] = [this](FakeBackend& b, Message& message) {
    const int fd = file_.get();
    b.Reply(message, {}, {&fd, 1});
  };
  FakeBackend other(std::move(pair.second), std::move(exporter));
  const auto owner = *Frontend::Create(std::move(pair.first), AllOptions());
  ASSERT_TRUE(owner->Negotiate().ok());
  other.Post([&](FakeBackend& b) { b.Send(BackendRequest::kSharedObjectAdd, AsBytes(uuid)); });
  ASSERT_TRUE(RunUntil(*owner, [&] { return objects_.Find(uuid) >= 0; }));

  FakeBackend::Options options = Backend();
  options.handlers[Request::kSetVringEnable] = [&](FakeBackend& b, Message& message) {
    FdList fds;
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(uuid), {}, &fds), 0u);
    EXPECT_EQ(fds.size(), 1u);
    b.Answer(message);
  };
  StartNegotiated(std::move(options), AllOptions());
  EXPECT_TRUE(frontend_->SetVringEnable(0, true).ok());
  // Look the object up again while both front-ends' loops run.
  std::atomic<bool> done = false;
  backend_->Post([&](FakeBackend& b) {
    FdList fds;
    EXPECT_EQ(b.Ask(BackendRequest::kSharedObjectLookup, AsBytes(uuid), {}, &fds), 0u);
    EXPECT_EQ(fds.size(), 1u);
    done = true;
  });
  EXPECT_TRUE(RunUntil(*frontend_, [&] {
    owner->Process().IgnoreError();
    return done.load();
  }));
  backend_.reset();
}

}  // namespace
}  // namespace gmem::vhost
