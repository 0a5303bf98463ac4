// SPDX-License-Identifier: MIT OR Apache-2.0
#include "linux_boot.h"

#include <asm/bootparam.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace minivmm {
namespace {

using testing::Each;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr size_t kSetupHeader = 0x1f1, kSector = 512, kImageSize = 5000;
constexpr size_t kRamSize = 4 << 20;
constexpr uint8_t kSetupSectors = 3, kImageByte = 0xa5, kInitramfsByte = 0x5a;

// A bzImage with a real header and an empty body.
class LinuxBootTest : public testing::Test {
 protected:
  LinuxBootTest() {
    header_.setup_sects = kSetupSectors;
    header_.header = 0x53726448;
    header_.version = 0x020f;
    header_.loadflags = LOADED_HIGH;
    header_.relocatable_kernel = 1;
    header_.cmdline_size = 2047;
    header_.initrd_addr_max = 0x7fffffff;
    header_.pref_address = kEntry;
    header_.init_size = 1 << 20;
  }

  std::vector<uint8_t> Kernel() const {
    std::vector<uint8_t> kernel((kSetupSectors + 1) * kSector);
    std::memcpy(&kernel[kSetupHeader], &header_, sizeof(header_));
    // The end of the header, as the offset of a jump over it.
    kernel[0x201] = kSetupHeader + sizeof(header_) - 0x202;
    kernel.resize(kernel.size() + kImageSize, kImageByte);
    return kernel;
  }

  absl::Status Load(const std::vector<uint8_t>& kernel) {
    return LoadLinux(absl::MakeSpan(ram_), kernel, initramfs_, command_line_);
  }

  // A refusal leaves guest memory unchanged.
  void ExpectRefused(const std::vector<uint8_t>& kernel, absl::StatusCode code,
                     const std::string& message) {
    const absl::Status status = Load(kernel);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_EQ(ram_, std::vector<uint8_t>(ram_.size()));
  }
  void ExpectRefused(absl::StatusCode code, const std::string& message) {
    ExpectRefused(Kernel(), code, message);
  }

  setup_header header_ = {};
  std::vector<uint8_t> ram_ = std::vector<uint8_t>(kRamSize);
  std::vector<uint8_t> initramfs_ = std::vector<uint8_t>(10000, kInitramfsByte);
  std::string command_line_ = "quiet";
};

TEST_F(LinuxBootTest, PutsEverythingInItsPlace) {
  const absl::Status status = Load(Kernel());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(std::vector(&ram_[kEntry], &ram_[kEntry + kImageSize]), Each(kImageByte));
  EXPECT_EQ(ram_[kEntry + kImageSize], 0);
  uint64_t gdt[4];
  std::memcpy(gdt, &ram_[kGdt], sizeof(gdt));
  EXPECT_THAT(gdt, ElementsAreArray(kGdtEntries));

  boot_params params;
  std::memcpy(&params, &ram_[kBootParams], sizeof(params));
  EXPECT_EQ(params.hdr.header, header_.header);
  EXPECT_EQ(params.hdr.type_of_loader, 0xff);
  EXPECT_STREQ(reinterpret_cast<char*>(&ram_[params.hdr.cmd_line_ptr]), "quiet");

  const uint32_t start = params.hdr.ramdisk_image;
  ASSERT_EQ(params.hdr.ramdisk_size, initramfs_.size());
  EXPECT_EQ(start % 4096, 0U);
  ASSERT_LE(start + initramfs_.size(), kRamSize);
  EXPECT_THAT(std::vector(&ram_[start], &ram_[start] + initramfs_.size()), Each(kInitramfsByte));

  ASSERT_EQ(params.e820_entries, 2);
  EXPECT_EQ(params.e820_table[0].addr, 0U);
  EXPECT_EQ(params.e820_table[1].addr, kEntry);
  EXPECT_EQ(params.e820_table[1].addr + params.e820_table[1].size, kRamSize);
}

TEST_F(LinuxBootTest, NoInitramfs) {
  initramfs_.clear();
  EXPECT_TRUE(Load(Kernel()).ok());
}

constexpr char kNoBzImage[] = "isn't a whole, relocatable bzImage of boot protocol 2.10 or later";

TEST_F(LinuxBootTest, NotABzImage) {
  const setup_header good = header_;
  header_.header ^= 1;
  ExpectRefused(absl::StatusCode::kInvalidArgument, kNoBzImage);
  header_ = good;
  header_.version = 0x0209;
  ExpectRefused(absl::StatusCode::kInvalidArgument, kNoBzImage);
  header_ = good;
  header_.loadflags = 0;
  ExpectRefused(absl::StatusCode::kInvalidArgument, kNoBzImage);
  header_ = good;
  header_.relocatable_kernel = 0;
  ExpectRefused(absl::StatusCode::kInvalidArgument, kNoBzImage);
}

TEST_F(LinuxBootTest, CutShort) {
  const std::vector<uint8_t> kernel = Kernel();
  for (size_t size = 0; size <= (kSetupSectors + 1) * kSector; ++size) {
    ExpectRefused({kernel.begin(), kernel.begin() + static_cast<ptrdiff_t>(size)},
                  absl::StatusCode::kInvalidArgument, kNoBzImage);
    if (HasFailure()) return;
  }
  header_.setup_sects = 255;
  ExpectRefused(absl::StatusCode::kInvalidArgument, kNoBzImage);
}

TEST_F(LinuxBootTest, HeaderThatSaysItIsLonger) {
  std::vector<uint8_t> kernel = Kernel();
  kernel[0x201] = 0xff;
  EXPECT_TRUE(Load(kernel).ok());
}

TEST_F(LinuxBootTest, CommandLine) {
  command_line_.assign(header_.cmdline_size, 'x');
  EXPECT_TRUE(Load(Kernel()).ok());
  ram_.assign(ram_.size(), 0);
  command_line_ += 'x';
  ExpectRefused(absl::StatusCode::kInvalidArgument, "has 2048 bytes, the kernel takes 2047");
  // The kernel's limit may be higher than the room below a BIOS's data.
  header_.cmdline_size = std::numeric_limits<uint32_t>::max();
  command_line_.assign(600 << 10, 'x');
  ExpectRefused(absl::StatusCode::kInvalidArgument, "has 614400 bytes");
}

TEST_F(LinuxBootTest, TooLittleRam) {
  header_.init_size = kRamSize - kEntry - 10000 - 4096;
  EXPECT_TRUE(Load(Kernel()).ok());
  ram_.assign(ram_.size(), 0);
  ++header_.init_size;
  ExpectRefused(absl::StatusCode::kResourceExhausted, "need between 4194305 and");
  ram_.clear();
  ExpectRefused(absl::StatusCode::kResourceExhausted, "not 0");
}

TEST_F(LinuxBootTest, TooMuchRam) {
  header_.initrd_addr_max = kRamSize - 1;
  EXPECT_TRUE(Load(Kernel()).ok());
  ram_.assign(ram_.size(), 0);
  --header_.initrd_addr_max;
  ExpectRefused(absl::StatusCode::kResourceExhausted, "and 4194303 bytes of RAM, not 4194304");
}

TEST_F(LinuxBootTest, PreferredAddressBeyondAllMemory) {
  for (uint64_t address : {uint64_t{1} << 32, std::numeric_limits<uint64_t>::max(),
                           std::numeric_limits<uint64_t>::max() - header_.init_size + 1}) {
    header_.pref_address = address;
    ExpectRefused(absl::StatusCode::kResourceExhausted, "need between");
  }
}

// With any header, the function touches nothing outside of guest memory and the kernel.
// AddressSanitizer would see it.
TEST_F(LinuxBootTest, AnyHeader) {
  std::mt19937 random(1);
  const std::vector<uint8_t> good = Kernel();
  int loaded = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> kernel = good;
    for (int bytes = 1 + static_cast<int>(random() % 3); bytes > 0; --bytes) {
      kernel[kSetupHeader + random() % sizeof(header_)] = static_cast<uint8_t>(random());
    }
    loaded += Load(kernel).ok();
  }
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, 20000);
}

}  // namespace
}  // namespace minivmm
