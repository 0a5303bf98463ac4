// SPDX-License-Identifier: Apache-2.0
// Virtqueues behind an IOMMU: what is asked of the front-end, and when.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>

#include "gmem/status.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;
using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

TEST_F(BackendTest, AsksForMissingTranslations) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  AddRequest();
  Kick();
  Run();
  // The ring's three parts, then the buffers: each is asked for, and told.
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
    // The rings lie at user addresses, the buffers at guest ones: all of the test's own.
    iotlb.user_address = iotlb.iova >= TestGuest::kUser
                             ? iotlb.iova
                             : iotlb.iova - TestGuest::kGuest + TestGuest::kUser;
    ASSERT_TRUE(Ask<FrontendRequest::kIotlbMsg>(iotlb).ok());
    Run();
    is_served = ring_.TakeUsed().has_value();
  }
  EXPECT_TRUE(is_served);
}

TEST_F(BackendTest, AsksAgainIfTheChannelWasFull) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  FillChannel();
  AddRequest();
  Kick();
  Run();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

TEST_F(BackendTest, KicksDontAskAgainForWhatIsUnderWay) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
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

// A driver's fault, perhaps: then it may know better the next time.
TEST_F(BackendTest, AKickRetriesATranslationThatWasRefused) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
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

TEST_F(BackendTest, DisabledQueuesAskForNothing) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  AddRequest();
  Kick();
  ASSERT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 0}).ok());
  TranslateAll();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringEnable>({.index = 0, .num = 1}).ok());
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(BackendTest, AsksForATranslationOnceIfItIsRefused) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_NE(NextOfChannel(), nullptr);
  ASSERT_TRUE(channel_->Acknowledge(absl::InternalError("no")).ok());
  Run();
  EXPECT_FALSE(FindInChannel(BackendRequest::kIotlbMsg));
  Kick();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

TEST_F(BackendTest, AsksANewChannelForTheTranslation) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_NE(NextOfChannel(), nullptr);
  OpenChannel();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
}

TEST_F(BackendTest, AsksTheFirstChannelForTheTranslation) {
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

TEST_F(BackendTest, RefusesARingInPieces) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  StartQueue();
  // The descriptors go on in a page that lies elsewhere.
  VringAddress address = Address(0);
  address.descriptor = TestGuest::kUser + 0xfc0;
  ASSERT_TRUE(Ask<FrontendRequest::kSetVringAddr>(address).ok());
  Translate(TestGuest::kUser, 0x1000, TestGuest::kUser);
  Translate(TestGuest::kUser + 0x1000, 0x1000, TestGuest::kUser + 0x5000);
  EXPECT_EQ(GetErrno(device_.failure), EINVAL) << device_.failure;
  EXPECT_TRUE(Take(error_));
}

// What the front-end says meanwhile doesn't fill a device's log.
TEST_F(BackendTest, AQueueFailsOnce) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser);
  StartQueue();
  // The descriptors aren't aligned any more.
  for (int i = 0; i < 3; i++) Translate(TestGuest::kUser, TestGuest::kSize, TestGuest::kUser + 1);
  EXPECT_EQ(device_.log, "start0 failed ");
}

}  // namespace
}  // namespace gmem::vhost
