// SPDX-License-Identifier: MIT OR Apache-2.0
#include "virtio_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "block_image.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/testing/ring.h"
#include "virtio_mmio.h"

namespace minivmm {
namespace {

using namespace gmem::vhost::doubles;  // NOLINT(google-build-using-namespace): tests' own words

TEST(VirtioDiskTest, ADriverWritesAndReads) {
  constexpr uint64_t kSize = 8 << 10;
  const gmem::UniqueFd file = NewFile(kSize);
  const auto image = BlockImage::Open(absl::StrCat("/proc/self/fd/", file.get()), false);
  ASSERT_TRUE(image.ok());
  VirtioDisk disk(image->get(), 1);
  TestGuest guest;
  gmem::vhost::GuestMemoryMap memory;
  ASSERT_TRUE(memory.Add(guest.region(), guest.fd()).ok());
  VirtioMmio mmio(&disk, &memory, [] {});
  const auto set = [&](uint64_t offset, uint64_t value) { mmio.Write(offset, 4, value); };

  EXPECT_EQ(mmio.Read(VIRTIO_MMIO_DEVICE_ID, 4), uint64_t{VIRTIO_ID_BLOCK});
  EXPECT_EQ(mmio.Read(VIRTIO_MMIO_CONFIG, 8), kSize / 512);

  uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
  set(VIRTIO_MMIO_STATUS, status);
  set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
  set(VIRTIO_MMIO_DRIVER_FEATURES, VirtioMmio::kNeeded >> 32);
  set(VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_FEATURES_OK);
  set(VIRTIO_MMIO_QUEUE_NUM, kQueueSize);
  set(VIRTIO_MMIO_QUEUE_DESC_LOW, TestGuest::kGuest + TestGuest::kDescriptors);
  set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, TestGuest::kGuest + TestGuest::kAvailable);
  set(VIRTIO_MMIO_QUEUE_USED_LOW, TestGuest::kGuest + TestGuest::kUsed);
  set(VIRTIO_MMIO_QUEUE_READY, 1);
  set(VIRTIO_MMIO_STATUS, status |= VIRTIO_CONFIG_S_DRIVER_OK);

  TestRing ring(guest, kQueueSize, /*is_packed=*/false);
  // A request for the last sector: header, data, status.
  const auto request = [&](uint32_t type) {
    guest.Put(TestGuest::kData, virtio_blk_outhdr{.type = type, .ioprio = 0, .sector = 15});
    guest.Put(TestGuest::kData + 0x800, uint8_t{0xff});
    ring.Add({{kData, sizeof(virtio_blk_outhdr), 0},
              {kData + 0x400, 512, type == VIRTIO_BLK_T_IN ? kWrite : uint16_t{0}},
              {kData + 0x800, 1, kWrite}});
    set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    EXPECT_TRUE(ring.TakeUsed());
    return guest.Get<uint8_t>(TestGuest::kData + 0x800);
  };
  std::memset(guest.at(TestGuest::kData + 0x400), 'x', 512);
  EXPECT_EQ(request(VIRTIO_BLK_T_OUT), VIRTIO_BLK_S_OK);
  std::string content(512, 0);
  EXPECT_EQ(pread(file.get(), content.data(), 512, kSize - 512), 512);
  EXPECT_EQ(content, std::string(512, 'x'));

  std::memset(guest.at(TestGuest::kData + 0x400), 0, 512);
  EXPECT_EQ(request(VIRTIO_BLK_T_IN), VIRTIO_BLK_S_OK);
  EXPECT_EQ(std::memcmp(guest.at(TestGuest::kData + 0x400), content.data(), 512), 0);
  EXPECT_TRUE(mmio.status().ok());
}

}  // namespace
}  // namespace minivmm
