// SPDX-License-Identifier: MIT OR Apache-2.0
// Virtqueues behind an IOMMU: which translations they ask for, and when.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class VringIotlbTest : public BackendTest {
 protected:
  // With memory, and the channel by which the back-end asks for translations.
  void StartWithIotlb() {
    Negotiate(Bit(VirtioFeature::kIommuPlatform));
    SetTable();
    OpenChannel();
  }
};

TEST_F(VringIotlbTest, AsksForMissingTranslations) {
  StartWithIotlb();
  StartQueue();
  AddRequest();
  Kick();
  Run();
  // The back-end asks for the ring's three parts, then for the buffers; the test answers each.
  bool is_served = false;
  for (int i = 0; i < 10 && !is_served; i++) {
    Message* const message = NextOfChannel();
    ASSERT_NE(message, nullptr) << i;
    auto iotlb = FromBytes<IotlbMessage>(message->bytes());
    EXPECT_EQ(iotlb.type, IotlbType::kMiss);
    ASSERT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
    iotlb.type = IotlbType::kUpdate;
    iotlb.permissions = kIotlbRead | kIotlbWrite;
    iotlb.iova &= ~uint64_t{0xfff};
    iotlb.size = 0x1000;
    // This test gives rings user addresses, and buffers guest addresses.
    iotlb.user_address = iotlb.iova >= TestGuest::kUser
                             ? iotlb.iova
                             : iotlb.iova - TestGuest::kGuest + TestGuest::kUser;
    ASSERT_TRUE(Ask<FrontendRequest::kIotlbMsg>(iotlb).ok());
    Run();
    is_served = ring_.TakeUsed().has_value();
  }
  EXPECT_TRUE(is_served);
}

TEST_F(VringIotlbTest, AsksAgainIfTheChannelWasFull) {
  StartWithIotlb();
  StartQueue();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  FillChannel();
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

TEST_F(VringIotlbTest, KicksDontRepeatARequestUnderWay) {
  StartWithIotlb();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  Kick();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  TranslateAll();
  EXPECT_TRUE(ring_.TakeUsed());
}

// The driver may have mapped the address since the front-end refused it.
TEST_F(VringIotlbTest, AKickRetriesATranslationThatWasRefused) {
  StartWithIotlb();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  Run();
  ASSERT_NE(NextOfChannel(), nullptr);
  EXPECT_EQ(guest_.Get<uint16_t>(TestGuest::kUsed), 1) << "no kicks meanwhile";
  ASSERT_TRUE(channel_->Acknowledge(absl::InternalError("no")).ok());
  Run();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  EXPECT_EQ(guest_.Get<uint16_t>(TestGuest::kUsed), 0) << "it must not hold back its kicks";
  Kick();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  TranslateAll();
  EXPECT_TRUE(ring_.TakeUsed());
}

// All kinds of rings, with a driver that kicks only when the ring asks for it.
class VringIotlbKickTest : public VringIotlbTest,
                           public testing::WithParamInterface<std::tuple<bool, bool>> {
 protected:
  bool is_packed() const { return std::get<0>(GetParam()); }
  bool has_event_idx() const { return std::get<1>(GetParam()); }
  // Does the ring ask for a kick for the chain that was @ring's entry @at, and is its last one?
  bool IsKickWanted(const TestRing& ring, uint16_t at) const {
    if (is_packed()) {
      const auto flags = guest_.Get<uint16_t>(TestGuest::kUsed + 2);
      const auto position = guest_.Get<uint16_t>(TestGuest::kUsed);
      return flags == 0 || (flags == 2 && position == (at | 1 << 15));
    }
    if (!has_event_idx()) return guest_.Get<uint16_t>(TestGuest::kUsed) == 0;
    return guest_.Get<uint16_t>(TestGuest::kUsed + 4 + 8 * kQueueSize) + 1 == ring.next();
  }
};

TEST_P(VringIotlbKickTest, AKickRetriesATranslationThatWasRefused) {
  TestRing ring(guest_, kQueueSize, is_packed());
  Negotiate(Bit(VirtioFeature::kIommuPlatform) |
            (is_packed() ? Bit(VirtioFeature::kRingPacked) : 0) |
            (has_event_idx() ? Bit(VirtioFeature::kEventIdx) : 0));
  SetTable();
  OpenChannel();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue(0, is_packed() ? 0x80008000 : 0);
  ring.Add({{kData, 3, 0}});
  Kick();
  Run();
  for (int i = 0; i < 3; i++) {
    ASSERT_NE(NextOfChannel(), nullptr) << i;
    ASSERT_TRUE(channel_->Acknowledge(absl::InternalError("no")).ok());
    Run();
    EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
    const uint16_t at = ring.next();
    ring.Add({{kData, 3, 0}});
    ASSERT_TRUE(IsKickWanted(ring, at)) << i;
    Kick();
    Run();
  }
  TranslateAll();
  for (int i = 0; i < 4; i++) EXPECT_TRUE(ring.TakeUsed()) << i;
}

INSTANTIATE_TEST_SUITE_P(Rings, VringIotlbKickTest,
                         testing::Combine(testing::Bool(), testing::Bool()));

TEST_F(VringIotlbTest, DisabledQueuesAskForNothing) {
  StartWithIotlb();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  Translate(TestGuest::kGuest, TestGuest::kSize, TestGuest::kUser);
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  TranslateAll();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(VringIotlbTest, AsksOnceForATranslationThatIsRefused) {
  StartWithIotlb();
  StartQueue();
  ASSERT_NE(NextOfChannel(), nullptr);
  ASSERT_TRUE(channel_->Acknowledge(absl::InternalError("no")).ok());
  Run();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  Kick();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

TEST_F(VringIotlbTest, AsksANewChannelForTheTranslation) {
  StartWithIotlb();
  StartQueue();
  ASSERT_NE(NextOfChannel(), nullptr);
  OpenChannel();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

// A front-end may acknowledge a request and never send the translation.
TEST_F(VringIotlbTest, AsksAgainAfterARestart) {
  StartWithIotlb();
  StartQueue();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kGetVringBase>({.index = 0, .num = 0}).ok());
  StartQueue();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg)) << "after a stop";
  ASSERT_TRUE(Ask<FrontendRequest::kResetDevice>().ok());
  StartQueue();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg)) << "after a reset";
  OpenChannel();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg)) << "of a new channel";
}

TEST_F(VringIotlbTest, AsksTheFirstChannelForTheTranslation) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  Run();
  OpenChannel();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

// Two queues, each with a chain of 8 pages of its own or of the other's. The front-end answers one
// page at a time, as a guest's IOMMU has them.
class VringIotlbManyTest : public VringIotlbTest {
 protected:
  static constexpr uint64_t kPage = 4096;
  // Where the second virtqueue's ring is.
  static constexpr uint64_t kSecondRing = 0x50000;

  void StartBoth(uint64_t data_of_second) {
    Negotiate(Bit(VirtioFeature::kIommuPlatform));
    SetTable();
    OpenChannel();
    std::vector<Piece> pieces;
    for (uint64_t i = 0; i < kQueueSize; i++) {
      pieces.push_back({kData + kPage * i, 8, kWrite});
      const uint64_t at = kSecondRing + 16 * i;
      guest_.Put(at, data_of_second + kPage * i);
      guest_.Put(at + 8, uint32_t{8});
      guest_.Put(at + 12, static_cast<uint16_t>(kWrite | (i + 1 < kQueueSize ? kNext : 0)));
      guest_.Put(at + 14, static_cast<uint16_t>(i + 1));
    }
    // One chain, whose head is descriptor 0.
    guest_.Put(kSecondRing + kPage + 2, uint16_t{1});
    ring_.Add(pieces);
    StartQueue(0);
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringNum>({.index = 1, .num = kQueueSize}).ok());
    VringAddress address = Address(1);
    address.descriptor = TestGuest::kUser + kSecondRing;
    address.available = address.descriptor + kPage;
    address.used = address.descriptor + 2 * kPage;
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
    second_kick_.reset(eventfd(0, EFD_NONBLOCK));
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringKick>(1, {second_kick_.get()}).ok());
    ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 1, .num = 1}).ok());
  }
  bool IsSecondUsed() const { return guest_.Get<uint16_t>(kSecondRing + 2 * kPage + 2) == 1; }
  // Answers one request after the other until both chains are used, and returns the pages that were
  // asked for.
  std::vector<uint64_t> AnswerAll() {
    std::vector<uint64_t> asked;
    bool is_first_used = false;
    for (int i = 0; i < 1000 && !(is_first_used && IsSecondUsed()); i++) {
      if (Message* const message = NextOfChannel()) {
        auto iotlb = FromBytes<IotlbMessage>(message->bytes());
        EXPECT_EQ(iotlb.type, IotlbType::kMiss);
        asked.push_back(iotlb.iova / kPage);
        EXPECT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
        iotlb.type = IotlbType::kUpdate;
        iotlb.iova -= iotlb.iova % kPage;
        iotlb.size = kPage;
        iotlb.user_address = iotlb.iova >= TestGuest::kUser
                                 ? iotlb.iova
                                 : iotlb.iova - TestGuest::kGuest + TestGuest::kUser;
        frontend_->Start<FrontendRequest::kIotlbMsg>(iotlb, {},
                                                     [](const absl::StatusOr<Message*>&) {});
      }
      Run();
      is_first_used = is_first_used || ring_.TakeUsed().has_value();
    }
    EXPECT_TRUE(is_first_used && IsSecondUsed());
    return asked;
  }
  static size_t Distinct(const std::vector<uint64_t>& pages) {
    return std::set<uint64_t>(pages.begin(), pages.end()).size();
  }

  UniqueFd second_kick_;
};

TEST_F(VringIotlbManyTest, AsksOnceForEachPage) {
  StartBoth(kData + kPage * kQueueSize);
  const std::vector<uint64_t> asked = AnswerAll();
  // The three parts of two rings, and the buffers.
  EXPECT_EQ(Distinct(asked), 2U * (3 + kQueueSize));
  EXPECT_EQ(asked.size(), Distinct(asked));
}

TEST_F(VringIotlbManyTest, AsksOnceForAPageThatTwoQueuesNeed) {
  StartBoth(kData);
  const std::vector<uint64_t> asked = AnswerAll();
  EXPECT_EQ(Distinct(asked), 2U * 3 + kQueueSize);
  EXPECT_EQ(asked.size(), Distinct(asked));
}

// All queues that wait for a page learn that there is no translation, and each asks again after a
// kick of its own.
TEST_F(VringIotlbManyTest, ARefusalIsForAllQueuesThatWait) {
  StartBoth(kData);
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  while (Message* const message = NextOfChannel()) {
    const bool is_ring = FromBytes<IotlbMessage>(message->bytes()).iova >= TestGuest::kUser;
    ASSERT_TRUE(channel_->Acknowledge(is_ring ? absl::OkStatus() : absl::InternalError("no")).ok());
    Run();
  }
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  const uint64_t one = 1;
  ASSERT_EQ(write(second_kick_.get(), &one, sizeof(one)), 8);
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  Translate(TestGuest::kGuest, TestGuest::kSize, TestGuest::kUser);
  EXPECT_TRUE(IsSecondUsed());
  EXPECT_TRUE(ring_.TakeUsed()) << "an update serves those that were refused, too";
}

// A translation without the permission that is needed isn't an answer: asking again and again
// would bring the same.
TEST_F(VringIotlbTest, AsksOnceIfThePermissionIsMissing) {
  StartWithIotlb();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  ring_.Add({{kData, 8, kWrite}});
  Kick();
  int nr_asked = 0;
  for (int i = 0; i < 20; i++) {
    Run();
    while (Message* const message = NextOfChannel()) {
      auto iotlb = FromBytes<IotlbMessage>(message->bytes());
      nr_asked++;
      ASSERT_TRUE(channel_->Acknowledge(absl::OkStatus()).ok());
      iotlb = {.iova = kData,
               .size = 4096,
               .user_address = TestGuest::kUser + TestGuest::kData,
               .permissions = kIotlbRead,
               .type = IotlbType::kUpdate,
               .padding = {}};
      frontend_->Start<FrontendRequest::kIotlbMsg>(iotlb, {},
                                                   [](const absl::StatusOr<Message*>&) {});
    }
  }
  EXPECT_EQ(nr_asked, 1);
  TranslateAll();
  EXPECT_TRUE(ring_.TakeUsed());
}

// The first virtqueue's ring needs the page to write; the second one's buffer, only to read.
TEST_F(VringIotlbManyTest, ARefusalIsForWhatWasAsked) {
  StartBoth(kData);
  const uint64_t seconds_buffer = TestGuest::kUser;
  guest_.Put(kSecondRing, seconds_buffer);
  guest_.Put(kSecondRing + 12, uint16_t{0});
  Translate(TestGuest::kUser + kSecondRing, 0x3000, TestGuest::kUser + kSecondRing);
  std::vector<uint8_t> asked;
  for (int i = 0; i < 10; i++) {
    Run();
    while (Message* const message = NextOfChannel()) {
      const auto iotlb = FromBytes<IotlbMessage>(message->bytes());
      if (iotlb.iova / kPage == TestGuest::kUser / kPage) asked.push_back(iotlb.permissions);
      ASSERT_TRUE(channel_->Acknowledge(absl::InternalError("no")).ok());
    }
  }
  EXPECT_EQ(asked, (std::vector<uint8_t>{kIotlbRead | kIotlbWrite, kIotlbRead}));
}

// A ring's memory is only looked for to write.
TEST_F(VringIotlbTest, ARingNeedsNoMoreThanWriting) {
  StartWithIotlb();
  AddRequest();
  StartQueue();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kIotlbMsg>({.iova = TestGuest::kUser,
                                               .size = TestGuest::kSize,
                                               .user_address = TestGuest::kUser,
                                               .permissions = kIotlbWrite,
                                               .type = IotlbType::kUpdate,
                                               .padding = {}})
                  .ok());
  EXPECT_NE(backend_->queue(0), nullptr) << "it works";
}

// A receive queue's device pops when a packet comes, not when it is called.
TEST_F(VringIotlbTest, AsksForADeviceThatPopsOnItsOwn) {
  device_.waits = true;
  StartWithIotlb();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  for (int i = 0; i < 5; i++) Run();
  ASSERT_EQ(NextOfChannel(), nullptr);
  Chain chain;
  EXPECT_EQ(backend_->queue(0)->Pop(chain), Popped::kMiss);
  pollfd poll_fd = {.fd = backend_->fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1) << "it wakes the loop";
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  const int before = device_.nr_calls;
  Translate(TestGuest::kGuest, TestGuest::kSize, TestGuest::kUser);
  EXPECT_GT(device_.nr_calls, before) << "the device learns that it can go on";
  EXPECT_EQ(backend_->queue(0)->Pop(chain), Popped::kChain);
}

TEST_F(VringIotlbTest, RefusesARingInPieces) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  StartQueue();
  // The second page of the descriptors lies elsewhere.
  VringAddress address = Address(0);
  address.descriptor = TestGuest::kUser + 0xfc0;
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
  Translate(TestGuest::kUser, 0x1000, TestGuest::kUser);
  Translate(TestGuest::kUser + 0x1000, 0x1000, TestGuest::kUser + 0x5000);
  EXPECT_EQ(GetErrno(device_.failure), EINVAL) << device_.failure;
  EXPECT_TRUE(Take(error_));
}

// Further updates of a front-end must not fill a device's log.
TEST_F(VringIotlbTest, AQueueFailsOnce) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  // The descriptors are no longer aligned.
  for (int i = 0; i < 3; i++) Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser + 1);
  EXPECT_EQ(device_.log, "start0 failed ");
}

}  // namespace
}  // namespace gmem::vhost
