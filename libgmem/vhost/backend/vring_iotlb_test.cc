// SPDX-License-Identifier: Apache-2.0
// Virtqueues behind an IOMMU: which translations they ask for, and when.
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

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class VringIotlbTest : public BackendTest {};

TEST_F(VringIotlbTest, AsksForMissingTranslations) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
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

TEST_F(VringIotlbTest, KicksDontRepeatARequestUnderWay) {
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

// The driver may have mapped the address since the front-end refused it.
TEST_F(VringIotlbTest, AKickRetriesATranslationThatWasRefused) {
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

TEST_F(VringIotlbTest, DisabledQueuesAskForNothing) {
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

TEST_F(VringIotlbTest, AsksOnceForATranslationThatIsRefused) {
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

TEST_F(VringIotlbTest, AsksANewChannelForTheTranslation) {
  Negotiate(Bit(VirtioFeature::kIommuPlatform));
  SetTable();
  OpenChannel();
  StartQueue();
  ASSERT_NE(NextOfChannel(), nullptr);
  OpenChannel();
  EXPECT_TRUE(FindInChannel(BackendRequest::kIotlbMsg));
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
