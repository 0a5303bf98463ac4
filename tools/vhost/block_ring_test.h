// SPDX-License-Identifier: MIT OR Apache-2.0
// A fixture: a disk, and a virtqueue in a guest's memory, without a device.
#ifndef GMEM_TOOLS_VHOST_BLOCK_RING_TEST_H_
#define GMEM_TOOLS_VHOST_BLOCK_RING_TEST_H_

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "block_image.h"
#include "block_request.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/testing/ring.h"

namespace block_test {

class BlockRingTest : public testing::Test {
 protected:
  // A ring of @size entries.
  explicit BlockRingTest(uint16_t size) : ring_(guest_, size, /*is_packed=*/false), size_(size) {}

  void SetUp() override {
    using gmem::vhost::doubles::TestGuest;
    std::string path = std::filesystem::temp_directory_path() / "gmem-ring-test.XXXXXX";
    const int fd = mkstemp(path.data());
    ASSERT_GE(fd, 0);
    EXPECT_EQ(ftruncate(fd, 1 << 20), 0);
    close(fd);
    auto image = BlockImage::Open(path, /*is_read_only=*/false);
    unlink(path.c_str());
    ASSERT_TRUE(image.ok()) << image.status();
    image_ = *std::move(image);
    disk_ = {.image = image_.get(), .serial = {}, .has_limits = true};
    ASSERT_TRUE(memory_.Add(guest_.region(), guest_.fd()).ok());
    const auto at = [this](uint64_t offset, uint64_t size) {
      return memory_.FromGuest(TestGuest::kGuest + offset, size);
    };
    auto queue =
        gmem::vhost::Virtqueue::Create(memory_, {.size = size_},
                                       {.descriptors = at(TestGuest::kDescriptors, 0x20000),
                                        .used = at(TestGuest::kUsed, 0x10000),
                                        .available = at(TestGuest::kAvailable, 0x10000)},
                                       0);
    ASSERT_TRUE(queue.ok()) << queue.status();
    queue_.emplace(*std::move(queue));
  }

  std::unique_ptr<BlockImage> image_;
  BlockDisk disk_;
  gmem::vhost::doubles::TestGuest guest_;
  gmem::vhost::GuestMemoryMap memory_;
  gmem::vhost::doubles::TestRing ring_;
  std::optional<gmem::vhost::Virtqueue> queue_;

 private:
  const uint16_t size_;
};

}  // namespace block_test

#endif  // GMEM_TOOLS_VHOST_BLOCK_RING_TEST_H_
