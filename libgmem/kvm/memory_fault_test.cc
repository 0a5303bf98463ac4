// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memory_fault.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "gmem/types.h"
#include "kvm/abi.h"

namespace gmem::kvm {
namespace {

kvm_run RunWith(uint32_t reason, uint64_t flags, uint64_t gpa, uint64_t size) {
  kvm_run run = {};
  run.exit_reason = reason;
  const uint64_t payload[] = {flags, gpa, size};
  std::memcpy(run.padding, payload, sizeof(payload));
  return run;
}

// The kernel's ABI: the place of the payload and the number of the exit reason.
TEST(KvmMemoryFaultTest, LayoutIsKvms) {
  EXPECT_EQ(offsetof(kvm_run, padding), 32);
  EXPECT_EQ(KVM_EXIT_MEMORY_FAULT, 39);
  EXPECT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, 8);
}

TEST(KvmMemoryFaultTest, DecodesSharedAndPrivate) {
  const GuestRange range = {GuestAddress(0x123000), ByteSize(0x1000)};
  EXPECT_EQ(DecodeMemoryFault(RunWith(39, 0, 0x123000, 0x1000), EFAULT),
            (MemoryFault{.range = range}));
  EXPECT_EQ(DecodeMemoryFault(RunWith(39, 8, 0x123000, 0x1000), EFAULT),
            (MemoryFault{.range = range, .is_private = true}));
}

TEST(KvmMemoryFaultTest, Poison) {
  const auto fault = DecodeMemoryFault(RunWith(39, 0, 0x1000, 0x1000), EHWPOISON);
  ASSERT_TRUE(fault.has_value());
  EXPECT_TRUE(fault->is_poisoned);
  EXPECT_EQ(ToString(*fault), "shared access to 0x1000..0x1fff, a broken page");
}

TEST(KvmMemoryFaultTest, KeepsUnknownFlags) {
  const auto fault = DecodeMemoryFault(RunWith(39, 0x18, 0x1000, 0x1000), EFAULT);
  ASSERT_TRUE(fault.has_value());
  EXPECT_TRUE(fault->is_private);
  EXPECT_EQ(fault->unknown_flags, 0x10);
  EXPECT_EQ(ToString(*fault), "private access to 0x1000..0x1fff");
}

TEST(KvmMemoryFaultTest, NothingForOtherExits) {
  EXPECT_EQ(DecodeMemoryFault(RunWith(0, 8, 0x1000, 0x1000), EFAULT), std::nullopt);
  EXPECT_EQ(DecodeMemoryFault(RunWith(KVM_EXIT_MMIO, 8, 0x1000, 0x1000), EFAULT), std::nullopt);
}

// When KVM_RUN fails with another errno, the reason of an earlier exit is still in place.
TEST(KvmMemoryFaultTest, NothingForOtherErrors) {
  EXPECT_EQ(DecodeMemoryFault(RunWith(39, 0, 0x1000, 0x1000), EINTR), std::nullopt);
  EXPECT_EQ(DecodeMemoryFault(RunWith(39, 0, 0x1000, 0x1000), 0), std::nullopt);
}

}  // namespace
}  // namespace gmem::kvm
