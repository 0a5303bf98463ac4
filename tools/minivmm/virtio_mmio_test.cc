// SPDX-License-Identifier: MIT OR Apache-2.0
#include "virtio_mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"
#include "virtio_device.h"

namespace minivmm {
namespace {

using namespace gmem::vhost::doubles;  // NOLINT(google-build-using-namespace): tests' own words
using gmem::vhost::Chain;
using gmem::vhost::Popped;
using gmem::vhost::Virtqueue;

constexpr uint32_t kFound = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
constexpr uint32_t kAgreed = kFound | VIRTIO_CONFIG_S_FEATURES_OK;
constexpr uint32_t kRunning = kAgreed | VIRTIO_CONFIG_S_DRIVER_OK;
constexpr uint32_t kNeedsReset = VIRTIO_CONFIG_S_NEEDS_RESET;
// A feature of the device type.
constexpr uint64_t kOwnFeature = 1 << 5;
constexpr uint64_t kFeatures = VirtioMmio::kNeeded | VirtioMmio::kIndirect | kOwnFeature;

// Answers each request by the number of its bytes. Takes one in a call.
class Counter : public VirtioDevice {
 public:
  uint32_t id() const override { return 42; }
  uint64_t features() const override { return kOwnFeature; }
  uint16_t nr_queues() const override { return 2; }
  std::vector<uint8_t> config() const override { return {1, 2, 3, 4, 5, 6}; }
  void SetFeatures(uint64_t features) override { chosen = features; }
  absl::Status Serve(Virtqueue& queue) override {
    if (queue.Pop(chain_) != Popped::kChain) return absl::OkStatus();
    if (chain_.writable_size() == 0) return absl::DataLossError("no room for an answer");
    const auto answer = static_cast<uint8_t>(chain_.readable_size());
    chain_.Write(0, &answer, sizeof(answer));
    queue.Push(chain_, 1);
    return absl::OkStatus();
  }

  uint64_t chosen = 0;

 private:
  Chain chain_;
};

class VirtioMmioTest : public testing::Test {
 protected:
  VirtioMmioTest() { EXPECT_TRUE(memory_.Add(guest_.region(), guest_.fd()).ok()); }

  uint32_t Get(uint64_t offset) { return static_cast<uint32_t>(mmio_.Read(offset, 4)); }
  void Set(uint64_t offset, uint32_t value) { mmio_.Write(offset, 4, value); }

  void SetFeatures(uint64_t features) {
    for (const uint32_t word : {0, 1}) {
      Set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
      Set(VIRTIO_MMIO_DRIVER_FEATURES, static_cast<uint32_t>(features >> 32 * word));
    }
  }
  // The steps of a driver, up to a status.
  void Agree(uint64_t features = kFeatures) {
    Set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    Set(VIRTIO_MMIO_STATUS, kFound);
    SetFeatures(features);
    Set(VIRTIO_MMIO_STATUS, kAgreed);
  }
  void Place(uint32_t size = kQueueSize, uint64_t at = TestGuest::kGuest) {
    Set(VIRTIO_MMIO_QUEUE_SEL, 1);
    Set(VIRTIO_MMIO_QUEUE_NUM, size);
    SetAddress(VIRTIO_MMIO_QUEUE_DESC_LOW, at + TestGuest::kDescriptors);
    SetAddress(VIRTIO_MMIO_QUEUE_AVAIL_LOW, at + TestGuest::kAvailable);
    SetAddress(VIRTIO_MMIO_QUEUE_USED_LOW, at + TestGuest::kUsed);
  }
  void SetAddress(uint64_t low, uint64_t address) {
    Set(low, static_cast<uint32_t>(address));
    Set(low + 4, static_cast<uint32_t>(address >> 32));
  }
  void Run() {
    Agree();
    Place();
    Set(VIRTIO_MMIO_QUEUE_READY, 1);
    Set(VIRTIO_MMIO_STATUS, kRunning);
    ASSERT_EQ(Get(VIRTIO_MMIO_STATUS), kRunning);
    ASSERT_EQ(Get(VIRTIO_MMIO_QUEUE_READY), 1U);
  }
  void AddRequest(uint32_t size) { ring_.Add({{kData, size, 0}, {kData + 0x100, 1, kWrite}}); }

  // The device has stopped, says why, and does nothing before a reset.
  void ExpectFailure(const std::string& why) {
    EXPECT_TRUE(Get(VIRTIO_MMIO_STATUS) & kNeedsReset);
    EXPECT_THAT(std::string(mmio_.status().message()), testing::HasSubstr(why));
    EXPECT_EQ(Get(VIRTIO_MMIO_QUEUE_READY), 0U);
    Set(VIRTIO_MMIO_QUEUE_READY, 1);
    Set(VIRTIO_MMIO_STATUS, kRunning);
    EXPECT_TRUE(Get(VIRTIO_MMIO_STATUS) & kNeedsReset);
    EXPECT_EQ(Get(VIRTIO_MMIO_QUEUE_READY), 0U);
    Set(VIRTIO_MMIO_STATUS, 0);
    EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), 0U);
    EXPECT_TRUE(mmio_.status().ok());
  }

  TestGuest guest_;
  gmem::vhost::GuestMemoryMap memory_;
  TestRing ring_{guest_, kQueueSize, /*is_packed=*/false};
  Counter device_;
  int interrupts_ = 0;
  VirtioMmio mmio_{&device_, &memory_, [this] { interrupts_++; }};
};

TEST_F(VirtioMmioTest, SaysWhatItIs) {
  EXPECT_EQ(Get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976U);
  EXPECT_EQ(Get(VIRTIO_MMIO_VERSION), 2U);
  EXPECT_EQ(Get(VIRTIO_MMIO_DEVICE_ID), 42U);
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), 0U);
  EXPECT_EQ(Get(VIRTIO_MMIO_CONFIG_GENERATION), 0U);
  // No shared memory region.
  EXPECT_EQ(Get(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffffU);
  EXPECT_EQ(Get(VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffffU);
  EXPECT_EQ(Get(VIRTIO_MMIO_QUEUE_NUM_MAX), VirtioMmio::kMaxQueueSize);
  Set(VIRTIO_MMIO_QUEUE_SEL, 2);
  EXPECT_EQ(Get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0U);
}

TEST_F(VirtioMmioTest, RegistersHaveFourBytes) {
  for (const uint32_t size : {1, 2, 8}) {
    EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_MAGIC_VALUE, size), 0U);
    mmio_.Write(VIRTIO_MMIO_STATUS, size, VIRTIO_CONFIG_S_ACKNOWLEDGE);
  }
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_MAGIC_VALUE + 1, 4), 0U);
  mmio_.Write(VIRTIO_MMIO_STATUS + 1, 4, VIRTIO_CONFIG_S_ACKNOWLEDGE);
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), 0U);
}

TEST_F(VirtioMmioTest, ConfigurationHasAnySize) {
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG, 1), 1U);
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG + 1, 2), 0x0302U);
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG + 2, 4), 0x06050403U);
  // Not all of it is there.
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG + 3, 4), 0U);
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG, 8), 0U);
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG + 7, 1), 0U);
  EXPECT_EQ(mmio_.Read(~uint64_t{0}, 4), 0U);
  mmio_.Write(VIRTIO_MMIO_CONFIG, 4, 9);
  EXPECT_EQ(mmio_.Read(VIRTIO_MMIO_CONFIG, 1), 1U);
}

TEST_F(VirtioMmioTest, OffersFeaturesInWords) {
  uint64_t features = Get(VIRTIO_MMIO_DEVICE_FEATURES);
  Set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
  features |= uint64_t{Get(VIRTIO_MMIO_DEVICE_FEATURES)} << 32;
  EXPECT_EQ(features, kFeatures);
  for (const uint32_t word : {2U, 0xffffffffU}) {
    Set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
    EXPECT_EQ(Get(VIRTIO_MMIO_DEVICE_FEATURES), 0U);
  }
}

TEST_F(VirtioMmioTest, TakesFeaturesOnce) {
  // Not before the status has DRIVER.
  SetFeatures(~uint64_t{0});
  Agree();
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), kAgreed);
  EXPECT_EQ(device_.chosen, kFeatures);
  SetFeatures(0);
  Set(VIRTIO_MMIO_STATUS, kRunning);
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), kRunning);
  EXPECT_EQ(device_.chosen, kFeatures);
}

TEST_F(VirtioMmioTest, RefusesFeatures) {
  for (const uint64_t features : {uint64_t{0}, kOwnFeature, kFeatures | 1 << 6,
                                  kFeatures & ~(uint64_t{1} << VIRTIO_F_ACCESS_PLATFORM),
                                  kFeatures & ~(uint64_t{1} << VIRTIO_F_VERSION_1)}) {
    Agree(features);
    EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), kFound) << features;
    EXPECT_EQ(device_.chosen, 0U);
    Set(VIRTIO_MMIO_STATUS, kRunning);
    ExpectFailure("the status from 0x3 to 0xf");
  }
  // Another try.
  Agree(0);
  SetFeatures(kFeatures);
  Set(VIRTIO_MMIO_STATUS, kAgreed);
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), kAgreed);
}

TEST_F(VirtioMmioTest, Serves) {
  Run();
  AddRequest(3);
  EXPECT_FALSE(ring_.TakeUsed());
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  const std::optional<Used> used = ring_.TakeUsed();
  ASSERT_TRUE(used);
  EXPECT_EQ(used->written, 1U);
  EXPECT_EQ(guest_.Get<uint8_t>(TestGuest::kData + 0x100), 3);
  EXPECT_EQ(interrupts_, 1);
  EXPECT_EQ(Get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_VRING});
  Set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
  EXPECT_EQ(Get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_VRING});
  Set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
  EXPECT_EQ(Get(VIRTIO_MMIO_INTERRUPT_STATUS), 0U);

  // One notification for several requests; the device takes one in a call.
  for (const uint32_t size : {1, 2, 3}) AddRequest(size);
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  for (int i = 0; i < 3; i++) EXPECT_TRUE(ring_.TakeUsed());
  EXPECT_TRUE(mmio_.status().ok());
}

TEST_F(VirtioMmioTest, IgnoresNotificationsOfWhatIsNotThere) {
  Agree();
  Place();
  Set(VIRTIO_MMIO_QUEUE_READY, 1);
  AddRequest(1);
  // Not before DRIVER_OK.
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_FALSE(ring_.TakeUsed());
  Set(VIRTIO_MMIO_STATUS, kRunning);
  for (const uint32_t index : {0U, 2U, 0x10001U, 0xffffffffU}) Set(VIRTIO_MMIO_QUEUE_NOTIFY, index);
  EXPECT_FALSE(ring_.TakeUsed());
  Set(VIRTIO_MMIO_QUEUE_READY, 0);
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_EQ(interrupts_, 0);
  EXPECT_TRUE(mmio_.status().ok());
}

TEST_F(VirtioMmioTest, AQueueThatIsReadyStaysWhereItIs) {
  Run();
  Place(3, 0);
  Set(VIRTIO_MMIO_QUEUE_READY, 1);
  AddRequest(1);
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_TRUE(ring_.TakeUsed());
}

TEST_F(VirtioMmioTest, RefusesQueues) {
  struct {
    uint32_t size;
    uint64_t at;
    const char* why;
  } const cases[] = {
      {0, TestGuest::kGuest, ""},
      {3, TestGuest::kGuest, "3"},
      {2 * VirtioMmio::kMaxQueueSize, TestGuest::kGuest, "has 128 entries, not at most 64"},
      {0xffffffff, TestGuest::kGuest, "has 4294967295 entries"},
      // No memory, or not all of it; not aligned.
      {kQueueSize, 0, ""},
      {kQueueSize, ~uint64_t{0xffff}, ""},
      {kQueueSize, TestGuest::kGuest + TestGuest::kSize - TestGuest::kUsed - 16, ""},
      {kQueueSize, TestGuest::kGuest + 1, ""},
  };
  for (const auto& c : cases) {
    Agree();
    Place(c.size, c.at);
    Set(VIRTIO_MMIO_QUEUE_READY, 1);
    ExpectFailure(c.why);
  }
  EXPECT_EQ(interrupts_, 0);
}

TEST_F(VirtioMmioTest, RefusesOtherValuesOfReady) {
  Agree();
  Place();
  Set(VIRTIO_MMIO_QUEUE_READY, 2);
  ExpectFailure("QueueReady is 2");
  Set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
  Place();
  Set(VIRTIO_MMIO_QUEUE_READY, 1);
  ExpectFailure("before FEATURES_OK");
}

TEST_F(VirtioMmioTest, RefusesSteps) {
  for (const uint32_t status : {uint32_t{VIRTIO_CONFIG_S_DRIVER}, uint32_t{0x10}, 0x101U,
                                kNeedsReset, uint32_t{VIRTIO_CONFIG_S_DRIVER_OK}, kRunning}) {
    Set(VIRTIO_MMIO_STATUS, status);
    ExpectFailure("the status from 0x0");
  }
  Set(VIRTIO_MMIO_STATUS, kFound);
  Set(VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_DRIVER);
  ExpectFailure("the status from 0x3 to 0x2");
}

TEST_F(VirtioMmioTest, StopsAtABrokenRing) {
  Run();
  // This address isn't the device's: for the guest, it may be memory.
  ring_.Add({{TestGuest::kGuest + TestGuest::kSize, 1, 0}, {kData, 1, kWrite}});
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_EQ(Get(VIRTIO_MMIO_INTERRUPT_STATUS), uint32_t{VIRTIO_MMIO_INT_CONFIG});
  EXPECT_EQ(interrupts_, 1);
  ExpectFailure("");
}

TEST_F(VirtioMmioTest, StopsAtARequestThatTheDeviceRefuses) {
  Run();
  ring_.Add({{kData, 1, 0}});
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_EQ(interrupts_, 1);
  ExpectFailure("no room for an answer");
}

TEST_F(VirtioMmioTest, ADriverGivesUp) {
  Run();
  Set(VIRTIO_MMIO_STATUS, kRunning | VIRTIO_CONFIG_S_FAILED);
  AddRequest(1);
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_FALSE(ring_.TakeUsed());
  EXPECT_TRUE(mmio_.status().ok());
  Set(VIRTIO_MMIO_STATUS, 0);
  EXPECT_EQ(Get(VIRTIO_MMIO_STATUS), 0U);
}

TEST_F(VirtioMmioTest, StartsAgainAfterAReset) {
  Run();
  AddRequest(1);
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_TRUE(ring_.TakeUsed());
  Set(VIRTIO_MMIO_STATUS, 0);
  EXPECT_EQ(Get(VIRTIO_MMIO_INTERRUPT_STATUS), 0U);
  EXPECT_EQ(device_.chosen, 0U);
  Set(VIRTIO_MMIO_QUEUE_SEL, 1);
  EXPECT_EQ(Get(VIRTIO_MMIO_QUEUE_READY), 0U);
  // A ring begins at index 0.
  TestRing again(guest_, kQueueSize, /*is_packed=*/false);
  again.SetAvailableIndex(0);
  guest_.Put(TestGuest::kUsed + 2, uint16_t{0});
  Run();
  again.Add({{kData, 2, 0}, {kData + 0x100, 1, kWrite}});
  Set(VIRTIO_MMIO_QUEUE_NOTIFY, 1);
  EXPECT_TRUE(again.TakeUsed());
  EXPECT_EQ(guest_.Get<uint8_t>(TestGuest::kData + 0x100), 2);
}

}  // namespace
}  // namespace minivmm
