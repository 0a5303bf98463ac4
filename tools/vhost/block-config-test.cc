// SPDX-License-Identifier: MIT OR Apache-2.0
// The configuration that the driver of the disk sees, and its choices there.
#include <gtest/gtest.h>
#include <linux/virtio_blk.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "block_config.h"
#include "block_image.h"

namespace {

constexpr uint32_t kCache = offsetof(virtio_blk_config, wce);
constexpr uint64_t kFlush = uint64_t{1} << VIRTIO_BLK_F_FLUSH;
constexpr uint64_t kChoice = uint64_t{1} << VIRTIO_BLK_F_CONFIG_WCE;

class BlockConfigTest : public testing::Test {
 protected:
  BlockConfigTest() : path_(std::filesystem::temp_directory_path() / "gmem-config-test.XXXXXX") {
    const int fd = mkstemp(path_.data());
    EXPECT_EQ(ftruncate(fd, 1 << 20), 0);
    close(fd);
  }
  ~BlockConfigTest() override { unlink(path_.c_str()); }

  std::unique_ptr<BlockImage> Open(bool is_read_only = false) const {
    auto image = BlockImage::Open(path_, is_read_only);
    EXPECT_TRUE(image.ok()) << image.status();
    return *std::move(image);
  }
  static absl::Status Choose(BlockConfig& config, uint8_t mode) {
    return config.Write(kCache, absl::MakeConstSpan(&mode, 1), /*is_migration=*/false);
  }
  static uint8_t Mode(const BlockConfig& config) {
    uint8_t mode = 0xff;
    config.Read(kCache, absl::MakeSpan(&mode, 1));
    return mode;
  }

  std::string path_;
};

// A front-end that comes back negotiates again, and doesn't repeat what the driver has chosen.
TEST_F(BlockConfigTest, TheCachesModeStaysUntilAReset) {
  const auto image = Open();
  BlockConfig config(image.get(), {.is_writable = true});
  config.SetFeatures(kFlush | kChoice);
  EXPECT_EQ(Mode(config), 1);
  ASSERT_TRUE(Choose(config, 0).ok());
  EXPECT_TRUE(config.disk().is_writethrough);
  config.SetFeatures(kFlush | kChoice);
  EXPECT_EQ(Mode(config), 0);
  EXPECT_TRUE(config.disk().is_writethrough);
  config.Reset();
  EXPECT_EQ(Mode(config), 1);
  EXPECT_FALSE(config.disk().is_writethrough);
}

TEST_F(BlockConfigTest, ADriverWritesTheCachesModeAlone) {
  const auto image = Open();
  BlockConfig config(image.get(), {.is_writable = true});
  EXPECT_FALSE(Choose(config, 2).ok());
  std::array<uint8_t, BlockConfig::kSize> all = {};
  EXPECT_FALSE(config.Write(0, all, /*is_migration=*/false).ok());
  EXPECT_EQ(Mode(config), 1);
  EXPECT_TRUE(config.Write(0, all, /*is_migration=*/true).ok());
  EXPECT_EQ(Mode(config), 0);
}

TEST_F(BlockConfigTest, OffersWhatTheImageAndTheTransportAllow) {
  const auto image = Open();
  EXPECT_NE(BlockConfig(image.get(), {.is_writable = true}).features() & kChoice, 0U);
  EXPECT_EQ(BlockConfig(image.get(), {}).features() & kChoice, 0U);
  const auto reader = Open(/*is_read_only=*/true);
  const uint64_t features = BlockConfig(reader.get(), {.is_writable = true}).features();
  EXPECT_NE(features >> VIRTIO_BLK_F_RO & 1, 0U);
  EXPECT_EQ(features >> VIRTIO_BLK_F_DISCARD & 1, 0U);
}

}  // namespace
