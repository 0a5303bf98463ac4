// SPDX-License-Identifier: MIT OR Apache-2.0
#include "arm64_boot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace minivmm {
namespace {

using testing::HasSubstr;

constexpr size_t kRamSize = 8 << 20, kImageSize = 5000;
constexpr uint8_t kImageByte = 0xa5, kInitramfsByte = 0x5a;

class Arm64BootTest : public testing::Test {
 protected:
  Arm64BootTest() {
    header_.magic = kArm64Magic;
    header_.image_size = 3 << 20;
  }

  std::vector<uint8_t> Kernel() const {
    std::vector<uint8_t> kernel(kImageSize, kImageByte);
    std::memcpy(kernel.data(), &header_, sizeof(header_));
    return kernel;
  }

  absl::StatusOr<Arm64Placement> Load(const std::vector<uint8_t>& kernel) {
    return LoadArm64Linux(absl::MakeSpan(ram_), kernel, initramfs_);
  }

  // A refusal leaves guest memory unchanged.
  void ExpectRefused(const std::vector<uint8_t>& kernel, absl::StatusCode code,
                     const std::string& message) {
    const absl::Status status = Load(kernel).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_TRUE(std::ranges::all_of(ram_, [](uint8_t byte) { return byte == 0; }));
  }

  Arm64Header header_ = {};
  std::vector<uint8_t> ram_ = std::vector<uint8_t>(kRamSize);
  std::vector<uint8_t> initramfs_ = std::vector<uint8_t>(10000, kInitramfsByte);
};

TEST_F(Arm64BootTest, PutsEverythingInItsPlace) {
  header_.text_offset = 0x80000;
  const auto placement = Load(Kernel());
  ASSERT_TRUE(placement.ok()) << placement.status();
  EXPECT_EQ(placement->entry.value(), 0x80000u);
  EXPECT_EQ(std::memcmp(&ram_[0x80000], &header_, sizeof(header_)), 0);
  EXPECT_EQ(ram_[0x80000 + kImageSize - 1], kImageByte);
  EXPECT_EQ(ram_[0x80000 + kImageSize], 0);
  // The kernel ends at 3.5 MiB.
  EXPECT_EQ(placement->tree.start.value(), uint64_t{4} << 20);
  EXPECT_EQ(placement->tree.size.value(), kTreeRoom);
  EXPECT_EQ(placement->initramfs.start, placement->tree.end());
  EXPECT_EQ(placement->initramfs.size.value(), initramfs_.size());
  EXPECT_EQ(ram_[placement->initramfs.start.value()], kInitramfsByte);
}

TEST_F(Arm64BootTest, RefusesWhatIsNoImage) {
  ExpectRefused({}, absl::StatusCode::kInvalidArgument, "isn't an uncompressed image");
  ExpectRefused(std::vector<uint8_t>(sizeof(header_) - 1), absl::StatusCode::kInvalidArgument,
                "isn't an uncompressed image");
  header_.text_offset = kArm64Alignment;
  ExpectRefused(Kernel(), absl::StatusCode::kInvalidArgument, "isn't an uncompressed image");
  header_.text_offset = 0;
  header_.magic = 0;
  ExpectRefused(Kernel(), absl::StatusCode::kInvalidArgument, "isn't an uncompressed image");
}

TEST_F(Arm64BootTest, RefusesWhatHasNoRoom) {
  header_.image_size = kRamSize;
  ExpectRefused(Kernel(), absl::StatusCode::kResourceExhausted,
                "bytes of RAM or more, not 8388608");
  header_.image_size = std::numeric_limits<uint64_t>::max();
  ExpectRefused(Kernel(), absl::StatusCode::kResourceExhausted, "bytes of RAM or more");
  header_.image_size = 0;
  initramfs_.resize(kRamSize - kArm64Alignment - kTreeRoom + 1);
  ExpectRefused(Kernel(), absl::StatusCode::kResourceExhausted, "bytes of RAM or more");
  initramfs_.pop_back();
  EXPECT_TRUE(Load(Kernel()).ok());
}

}  // namespace
}  // namespace minivmm
