// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/capabilities.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/fake_kvm.h"

namespace gmem::kvm {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int kMmap = GUEST_MEMFD_FLAG_MMAP;
constexpr int kBoth = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;

class KvmCapabilitiesTest : public testing::Test {
 protected:
  Capabilities Query() {
    const UniqueFd vm = kvm_.NewVm();
    auto caps = Capabilities::Query(vm.get());
    EXPECT_TRUE(caps.ok()) << caps.status();
    return caps.value_or(Capabilities());
  }
  static std::string Missing(const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_EQ(GetErrno(status), EOPNOTSUPP);
    return std::string(status.message());
  }

  doubles::FakeKvm kvm_;
};

TEST_F(KvmCapabilitiesTest, AreWhatKvmSays) {
  kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  kvm_.SetCapability(KVM_CAP_NR_MEMSLOTS, 7);
  const Capabilities caps = Query();
  EXPECT_TRUE(caps.user_memory_region2);
  EXPECT_TRUE(caps.memory_fault_exit);
  EXPECT_TRUE(caps.guest_memfd);
  EXPECT_TRUE(caps.read_only_memslots);
  EXPECT_TRUE(caps.has_private_memory());
  EXPECT_EQ(caps.max_memslots, 7);
  EXPECT_EQ(caps.guest_memfd_flags, kBoth);
}

TEST_F(KvmCapabilitiesTest, OldKernelHasNone) {
  for (const int cap : {KVM_CAP_USER_MEMORY2, KVM_CAP_MEMORY_FAULT_INFO, KVM_CAP_GUEST_MEMFD,
                        KVM_CAP_GUEST_MEMFD_FLAGS, KVM_CAP_READONLY_MEM}) {
    kvm_.SetCapability(cap, 0);
  }
  const Capabilities caps = Query();
  EXPECT_FALSE(caps.user_memory_region2);
  EXPECT_FALSE(caps.memory_fault_exit);
  EXPECT_FALSE(caps.guest_memfd);
  EXPECT_FALSE(caps.read_only_memslots);
  EXPECT_FALSE(caps.has_private_memory());
  const std::string message = Missing(caps.CheckGuestMemfd(GuestMemfdKind::kShared));
  EXPECT_THAT(message, HasSubstr("no guest_memfd"));
  EXPECT_THAT(message, HasSubstr("Linux 6.18"));
  EXPECT_THAT(message, HasSubstr("this is Linux "));
}

TEST_F(KvmCapabilitiesTest, AllKindsWithBothFlags) {
  const Capabilities caps = Query();
  EXPECT_TRUE(caps.CheckGuestMemfd(GuestMemfdKind::kShared).ok());
  EXPECT_TRUE(caps.CheckGuestMemfd(GuestMemfdKind::kGuestOnly).ok());
  EXPECT_TRUE(caps.CheckGuestMemfd(GuestMemfdKind::kPrivate).ok());
}

TEST_F(KvmCapabilitiesTest, NamesBothMissingFlags) {
  kvm_.SetCapability(KVM_CAP_GUEST_MEMFD_FLAGS, 0);
  const Capabilities caps = Query();
  EXPECT_TRUE(caps.CheckGuestMemfd(GuestMemfdKind::kPrivate).ok());
  EXPECT_THAT(Missing(caps.CheckGuestMemfd(GuestMemfdKind::kShared)),
              HasSubstr("lacks MMAP and INIT_SHARED (KVM_CAP_GUEST_MEMFD_FLAGS is 0x0)"));
  const std::string message = Missing(caps.CheckGuestMemfd(GuestMemfdKind::kGuestOnly));
  EXPECT_THAT(message, HasSubstr("kGuestOnly"));
  EXPECT_THAT(message, HasSubstr("lacks MMAP ("));
}

TEST_F(KvmCapabilitiesTest, NamesTheOneMissingFlag) {
  kvm_.SetCapability(KVM_CAP_GUEST_MEMFD_FLAGS, kMmap);
  const Capabilities caps = Query();
  EXPECT_TRUE(caps.CheckGuestMemfd(GuestMemfdKind::kGuestOnly).ok());
  const std::string message = Missing(caps.CheckGuestMemfd(GuestMemfdKind::kShared));
  EXPECT_THAT(message, HasSubstr("lacks INIT_SHARED (KVM_CAP_GUEST_MEMFD_FLAGS is 0x1)"));
  EXPECT_THAT(message, HasSubstr("Linux 6.18"));
}

TEST_F(KvmCapabilitiesTest, NoKernelSharesInVmsWithPrivateMemory) {
  kvm_.SetCapability(KVM_CAP_GUEST_MEMFD_FLAGS, kMmap);
  kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  const std::string message = Missing(Query().CheckGuestMemfd(GuestMemfdKind::kShared));
  EXPECT_THAT(message, HasSubstr("use kPrivate"));
  EXPECT_THAT(message, Not(HasSubstr("or later")));
}

TEST_F(KvmCapabilitiesTest, PrivateMemory) {
  EXPECT_THAT(Missing(Query().CheckPrivateMemory()), HasSubstr("CONFIG_KVM_SW_PROTECTED_VM"));
  kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  EXPECT_TRUE(Query().CheckPrivateMemory().ok());
}

TEST_F(KvmCapabilitiesTest, RefusesADescriptorThatIsNoVm) {
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto caps = Capabilities::Query(null.get());
  EXPECT_EQ(GetErrno(caps.status()), ENOTTY);
  EXPECT_THAT(std::string(caps.status().message()), HasSubstr("not a VM"));
}

TEST_F(KvmCapabilitiesTest, VmOfAnotherProcess) {
  kvm_.FailNext(KVM_CHECK_EXTENSION, EIO);
  const UniqueFd vm = kvm_.NewVm();
  EXPECT_THAT(std::string(Capabilities::Query(vm.get()).status().message()),
              HasSubstr("another process"));
}

TEST(KvmGuestMemfdKindTest, HasNames) {
  EXPECT_STREQ(ToString(GuestMemfdKind::kShared), "kShared");
  EXPECT_STREQ(ToString(GuestMemfdKind::kGuestOnly), "kGuestOnly");
  EXPECT_STREQ(ToString(GuestMemfdKind::kPrivate), "kPrivate");
}

}  // namespace
}  // namespace gmem::kvm
