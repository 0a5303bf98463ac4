// SPDX-License-Identifier: MIT OR Apache-2.0
// Runs on a host with Gunyah, or with the EL2 monitor of selftests/el2 in its place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem::gunyah {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kCode(0x80000000);
constexpr GuestAddress kDeviceTree = kCode + KiB(4);
constexpr GuestAddress kData = kCode + KiB(8);
constexpr GuestAddress kShared = kCode + MiB(1);
constexpr GuestAddress kMmio(0x10000000);
constexpr uint32_t kEndlessLoop = 0x14000000;  // b .

int CountFds() {
  const std::filesystem::directory_iterator fds("/proc/self/fd");
  return static_cast<int>(std::distance(begin(fds), end(fds)));
}

// Adds 1 to the word at X0, copies it to X1, writes a word that it reads from the device at X3 back
// to the device, and switches the VM off.
constexpr uint32_t kProgram[] = {
    0xb9400004,  // ldr w4, [x0]
    0x11000484,  // add w4, w4, #1
    0xb9000004,  // str w4, [x0]
    0xb9000024,  // str w4, [x1]
    0xb9400062,  // ldr w2, [x3]
    0xb9000062,  // str w2, [x3]
    0x52b08000,  // mov w0, #0x84000000
    0x72800100,  // movk w0, #8: SYSTEM_OFF
    0xd4000002,  // hvc #0
    kEndlessLoop,
};

// A VM with a program in lent memory, and a page that host and guest share.
class GunyahGuestTest : public ModuleTest {
 protected:
  void SetUp() override {
    ModuleTest::SetUp();
    const auto info = device().Info();
    ASSERT_THAT(info, IsOk());
    if (info->providers[0].binds_first) {
      GTEST_SKIP() << "the program needs registers that a Resource Manager of parcels doesn't set";
    }
    vm_.emplace(NewVm({.provider = kProvider}));
    lent_.emplace(NewMemory(3 * kPage));
    shared_.emplace(NewMemory(kPage));
    ASSERT_THAT(vm_->Map(*lent_, {.guest_address = kCode, .size = lent_->size()}), IsOk());
    ASSERT_THAT(
        vm_->Map(
            *shared_,
            {.guest_address = kShared, .size = kPage, .mode = MapMode::kShare, .execute = false}),
        IsOk());
    lent_view_ = MapAll(*lent_);
    shared_view_ = MapAll(*shared_);
    ASSERT_THAT(SetDeviceTree(*vm_, {kDeviceTree, kPage}), IsOk());
  }

  void TearDown() override {
    lent_view_.Reset();
    shared_view_.Reset();
    vm_.reset();
    lent_.reset();
    shared_.reset();
    ModuleTest::TearDown();
  }

  static Mapping MapAll(const GuestMemory& memory) {
    auto mapping = Mapping::OfFile(memory.fd(), {.size = memory.size()});
    EXPECT_THAT(mapping, IsOk());
    return *std::move(mapping);
  }

  // Writes a word of lent memory. Call it only while the host may still use that memory.
  void Write(GuestAddress address, uint32_t value) {
    std::memcpy(lent_view_.data() + (address - kCode).value(), &value, sizeof(value));
  }
  uint32_t SharedWord() const {
    uint32_t word = 0;
    std::memcpy(&word, shared_view_.data(), sizeof(word));
    return word;
  }

  void Load(const uint32_t* program, size_t size) {
    std::memcpy(lent_view_.data(), program, size);
    ASSERT_THAT(SetBootRegister(*vm_, BootRegister::Pc(), kCode.value()), IsOk());
    ASSERT_THAT(SetBootRegister(*vm_, BootRegister::X(0), kData.value()), IsOk());
    ASSERT_THAT(SetBootRegister(*vm_, BootRegister::X(1), kShared.value()), IsOk());
    ASSERT_THAT(SetBootRegister(*vm_, BootRegister::X(3), kMmio.value()), IsOk());
  }

  Vcpu AddVcpu() {
    auto vcpu = Vcpu::Add(*vm_, 0);
    EXPECT_THAT(vcpu, IsOk());
    return *std::move(vcpu);
  }

  std::optional<Vm> vm_;
  std::optional<GuestMemory> lent_, shared_;
  Mapping lent_view_, shared_view_;
};

TEST_F(GunyahGuestTest, RunsInLentAndSharedMemory) {
  Load(kProgram, sizeof(kProgram));
  Write(kData, 41);
  Vcpu vcpu = AddVcpu();
  ASSERT_THAT(Start(*vm_), IsOk());

  auto exit = vcpu.Run();
  ASSERT_THAT(exit, IsOk());
  ASSERT_EQ(ToString(*exit), "read of 4 bytes at 0x10000000");
  EXPECT_EQ(SharedWord(), 42U);
  constexpr std::array<uint8_t, 4> kWord = {0x12, 0x34, 0x56, 0x78};
  ASSERT_THAT(vcpu.SetReadData(kWord), IsOk());

  exit = vcpu.Run();
  ASSERT_THAT(exit, IsOk());
  ASSERT_EQ(ToString(*exit), "write of 4 bytes at 0x10000000");
  EXPECT_EQ(std::memcmp(std::get<MmioExit>(*exit).data.data(), kWord.data(), kWord.size()), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(vcpu.SetReadData(kWord)));

  exit = vcpu.Run();
  ASSERT_THAT(exit, IsOk());
  EXPECT_EQ(ToString(*exit), "the VM exited (off)");
  EXPECT_TRUE(absl::IsFailedPrecondition(vcpu.FailAccess()));
}

TEST_F(GunyahGuestTest, LentPagesAreLent) {
  Load(kProgram, sizeof(kProgram));
  const auto before = device().Stats();
  ASSERT_THAT(before, IsOk());
  Vcpu vcpu = AddVcpu();
  ASSERT_THAT(Start(*vm_), IsOk());
  ASSERT_THAT(vcpu.Run(), IsOk());
  const auto after = device().Stats();
  ASSERT_THAT(after, IsOk());
  // One page each for the program, the device tree and the data.
  EXPECT_EQ(after->lent_pages - before->lent_pages, 3U);
}

TEST_F(GunyahGuestTest, LendsSecretMemory) {
  const int fds_before = CountFds();
  {
    const auto secret = device().CreateSecretMemory(4 * kPage);
    ASSERT_THAT(secret, IsOk());
    EXPECT_EQ(secret->size(), 4 * kPage);
    const Vm vm = NewVm({.provider = kProvider});
    EXPECT_THAT(vm.Map(*secret, {.guest_address = kCode, .size = secret->size()}), IsOk());
    EXPECT_THAT(NewVm({.provider = "window"}).Map(*secret, {.size = secret->size()}),
                FailsWith(EOPNOTSUPP, "secret memory"));
  }
  EXPECT_EQ(CountFds(), fds_before);
  EXPECT_THAT(device().CreateSecretMemory(ByteSize(100)), FailsWith(EINVAL, "multiple of"));
}

TEST_F(GunyahGuestTest, StartsOnce) {
  Load(kProgram, sizeof(kProgram));
  Vcpu vcpu = AddVcpu();
  EXPECT_THAT(vcpu.Run(), FailsWith(ENODEV, "doesn't run"));
  ASSERT_THAT(Start(*vm_), IsOk());
  EXPECT_THAT(Start(*vm_), FailsWith(EALREADY, "can't start"));
  EXPECT_THAT(SetDeviceTree(*vm_, {kDeviceTree, kPage}), FailsWith(EBUSY, "0x80001000"));
  EXPECT_THAT(SetBootRegister(*vm_, BootRegister::X(0), 0), FailsWith(EBUSY, "register 0x0"));
}

TEST_F(GunyahGuestTest, VcpusByLabel) {
  {
    const Vcpu vcpu = AddVcpu();
    EXPECT_THAT(Vcpu::Add(*vm_, 0), FailsWith(EEXIST, "vCPU 0"));
  }
  EXPECT_THAT(RemoveVcpu(*vm_, 0), FailsWith(ENOENT, "vCPU 0"));
  Load(kProgram, sizeof(kProgram));
  Vcpu vcpu = AddVcpu();
  ASSERT_THAT(Start(*vm_), IsOk());
  ASSERT_THAT(RemoveVcpu(*vm_, 0), IsOk());
  EXPECT_THAT(vcpu.Run(), FailsWith(ENODEV, "doesn't run"));
  EXPECT_THAT(Vcpu::Add(*vm_, 0), IsOk());
}

TEST_F(GunyahGuestTest, ExitsOnRequest) {
  Load(&kEndlessLoop, sizeof(kEndlessLoop));
  Vcpu vcpu = AddVcpu();
  ASSERT_THAT(Start(*vm_), IsOk());
  vcpu.RequestExit();
  EXPECT_THAT(vcpu.Run(), FailsWith(EINTR, "doesn't run"));
}

TEST_F(GunyahGuestTest, TheVcpuHoldsTheVm) {
  Load(kProgram, sizeof(kProgram));
  Vcpu vcpu = AddVcpu();
  ASSERT_THAT(Start(*vm_), IsOk());
  vm_.reset();
  const auto exit = vcpu.Run();
  ASSERT_THAT(exit, IsOk());
  EXPECT_TRUE(std::holds_alternative<MmioExit>(*exit)) << ToString(*exit);
}

}  // namespace
}  // namespace gmem::gunyah
