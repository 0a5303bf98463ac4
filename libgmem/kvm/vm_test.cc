// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/vm.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/fake_kvm.h"

namespace gmem::kvm {
namespace {

using testing::HasSubstr;

constexpr ByteSize kPage(4096);

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class KvmVmTest : public testing::Test {
 protected:
  Vm NewVm(uint32_t first_memslot = 0) {
    auto vm = Vm::Adopt(kvm_.NewVm(), first_memslot);
    EXPECT_TRUE(vm.ok()) << vm.status();
    return *std::move(vm);
  }

  doubles::FakeKvm kvm_;
};

TEST_F(KvmVmTest, AdoptWantsAVm) {
  EXPECT_EQ(GetErrno(Vm::Adopt(UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC))).status()),
            ENOTTY);
  EXPECT_EQ(GetErrno(Vm::Adopt(UniqueFd()).status()), EBADF);
}

TEST_F(KvmVmTest, CreateWantsTheDevice) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_THAT(Message(Vm::Create(null.get()).status()), HasSubstr("can't create a VM of type 0"));
  EXPECT_THAT(Message(OpenDevice("/dev/null").status()), HasSubstr("not KVM's device"));
  EXPECT_EQ(OpenDevice("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(KvmVmTest, GuestMemfdOfEachKindHasItsFlags) {
  const Vm vm = NewVm();
  const std::pair<GuestMemfdKind, uint64_t> cases[] = {
      {GuestMemfdKind::kShared, GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED},
      {GuestMemfdKind::kGuestOnly, GUEST_MEMFD_FLAG_MMAP},
      {GuestMemfdKind::kPrivate, 0},
  };
  for (const auto& [kind, flags] : cases) {
    const auto memfd = vm.CreateGuestMemfd(MiB(2), kind);
    ASSERT_TRUE(memfd.ok()) << memfd.status();
    EXPECT_EQ(kvm_.last_create().flags, flags);
    EXPECT_EQ(kvm_.last_create().size, MiB(2).value());
    EXPECT_EQ(memfd->size(), MiB(2));
    EXPECT_EQ(memfd->kind(), kind);
    EXPECT_EQ(fcntl(memfd->fd(), F_GETFD), FD_CLOEXEC);
  }
}

TEST_F(KvmVmTest, GuestMemfdSizes) {
  const Vm vm = NewVm();
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{4097},
                              uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()}) {
    const auto memfd = vm.CreateGuestMemfd(ByteSize(size));
    EXPECT_EQ(memfd.status().code(), absl::StatusCode::kInvalidArgument) << size;
    EXPECT_EQ(GetErrno(memfd.status()), EINVAL);
  }
  EXPECT_EQ(kvm_.last_create().size, 0) << "KVM was asked";
}

TEST_F(KvmVmTest, GuestMemfdThatKvmLacks) {
  kvm_.SetCapability(KVM_CAP_GUEST_MEMFD_FLAGS, 0);
  const Vm vm = NewVm();
  const absl::Status status = vm.CreateGuestMemfd(kPage).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Message(status), HasSubstr("MMAP and INIT_SHARED"));
}

TEST_F(KvmVmTest, GuestMemfdThatKvmRefuses) {
  const Vm vm = NewVm();
  kvm_.FailNext(KVM_CREATE_GUEST_MEMFD, EMFILE);
  const absl::Status status = vm.CreateGuestMemfd(kPage).status();
  EXPECT_EQ(GetErrno(status), EMFILE);
  EXPECT_THAT(Message(status), HasSubstr("kShared guest_memfd of 4 KiB"));
}

TEST_F(KvmVmTest, AttributesOfVmsWithPrivateMemory) {
  kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  const Vm vm = NewVm();
  ASSERT_TRUE(vm.SetPrivate({GuestAddress(0x1000), KiB(8)}).ok());
  ASSERT_TRUE(vm.SetShared({GuestAddress(0x2000), KiB(4)}).ok());
  ASSERT_EQ(kvm_.attributes().size(), 2);
  EXPECT_EQ(kvm_.attributes()[0].address, 0x1000);
  EXPECT_EQ(kvm_.attributes()[0].size, 0x2000);
  EXPECT_EQ(kvm_.attributes()[0].attributes, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  EXPECT_EQ(kvm_.attributes()[0].flags, 0);
  EXPECT_EQ(kvm_.attributes()[1].attributes, 0);
}

TEST_F(KvmVmTest, RefusesInvalidAttributes) {
  const Vm without = NewVm();
  EXPECT_EQ(without.SetPrivate({GuestAddress(0), kPage}).code(), absl::StatusCode::kUnimplemented);

  kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  const Vm vm = NewVm();
  EXPECT_EQ(GetErrno(vm.SetPrivate({GuestAddress(0), ByteSize(0)})), EINVAL);
  EXPECT_EQ(GetErrno(vm.SetPrivate({GuestAddress(1), kPage})), EINVAL);
  EXPECT_EQ(GetErrno(vm.SetShared({GuestAddress(0), ByteSize(1)})), EINVAL);
  EXPECT_EQ(GetErrno(vm.SetShared({GuestAddress(0) + ByteSize(-4096), KiB(8)})), EOVERFLOW);
  EXPECT_TRUE(kvm_.attributes().empty());
  kvm_.FailNext(KVM_SET_MEMORY_ATTRIBUTES, ENOMEM);
  EXPECT_EQ(vm.SetPrivate({GuestAddress(0), kPage}).code(), absl::StatusCode::kResourceExhausted);
}

TEST(KvmGuestMemfdTest, AdoptsNoOtherFile) {
  UniqueFd memfd(memfd_create("plain", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memfd.get(), 4096), 0);
  const auto adopted = GuestMemfd::Adopt(std::move(memfd), GuestMemfdKind::kShared, kPage);
  EXPECT_EQ(GetErrno(adopted.status()), EINVAL);
  EXPECT_THAT(Message(adopted.status()), HasSubstr("not a guest_memfd but /memfd:plain"));
  EXPECT_EQ(GetErrno(GuestMemfd::Adopt(UniqueFd(), GuestMemfdKind::kShared, kPage).status()),
            EBADF);
}

class KvmGuestMemfdRangeTest : public KvmVmTest {
 protected:
  Vm vm_ = NewVm();
  GuestMemfd memfd_ = *vm_.CreateGuestMemfd(KiB(64));

  uint64_t Allocated() const {
    struct stat stat = {};
    EXPECT_EQ(fstat(memfd_.fd(), &stat), 0);
    return static_cast<uint64_t>(stat.st_blocks) * 512;
  }
};

TEST_F(KvmGuestMemfdRangeTest, AllocateAndDiscard) {
  ASSERT_TRUE(memfd_.Allocate({ByteOffset(0), KiB(32)}).ok());
  EXPECT_EQ(Allocated(), KiB(32).value());
  ASSERT_TRUE(memfd_.Discard({ByteOffset(4096), KiB(8)}).ok());
  EXPECT_EQ(Allocated(), KiB(24).value());
  struct stat stat = {};
  ASSERT_EQ(fstat(memfd_.fd(), &stat), 0);
  EXPECT_EQ(stat.st_size, 65536);
}

TEST_F(KvmGuestMemfdRangeTest, RefusesInvalidRanges) {
  const ByteRange bad[] = {
      {ByteOffset(0), ByteSize(0)}, {ByteOffset(1), kPage},     {ByteOffset(0), ByteSize(4095)},
      {ByteOffset(0), KiB(68)},     {ByteOffset(65536), kPage}, {ByteOffset(-4096), KiB(8)},
  };
  for (const ByteRange& range : bad) {
    EXPECT_EQ(GetErrno(memfd_.Allocate(range)), EINVAL);
    EXPECT_EQ(GetErrno(memfd_.Discard(range)), EINVAL);
    EXPECT_EQ(GetErrno(memfd_.Map(range).status()), EINVAL);
  }
  EXPECT_EQ(Allocated(), 0);
}

TEST_F(KvmGuestMemfdRangeTest, MapsAllOrARange) {
  const Mapping all = *memfd_.Map();
  ASSERT_EQ(all.size(), 65536);
  const Mapping part = *memfd_.Map({ByteOffset(8192), KiB(4)}, MemoryAccess::kReadOnly);
  ASSERT_EQ(part.size(), 4096);
  all.data()[8192 + 5] = 42;
  EXPECT_EQ(part.data()[5], 42);
}

TEST_F(KvmGuestMemfdRangeTest, PrivateCantBeMapped) {
  const GuestMemfd memfd = *vm_.CreateGuestMemfd(kPage, GuestMemfdKind::kPrivate);
  EXPECT_EQ(memfd.Map().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(KvmGuestMemfdRangeTest, AdoptChecksSizeAndKind) {
  const int fd = memfd_.fd();
  const auto adopt = [fd](GuestMemfdKind kind, ByteSize size) {
    return GuestMemfd::Adopt(*UniqueFd::Duplicate(fd), kind, size);
  };
  EXPECT_THAT(Message(adopt(GuestMemfdKind::kShared, KiB(60)).status()),
              HasSubstr("has 64 KiB, not 60 KiB"));
  EXPECT_THAT(Message(adopt(GuestMemfdKind::kPrivate, KiB(64)).status()),
              HasSubstr("can be mapped: it is not kPrivate"));
  const auto adopted = adopt(GuestMemfdKind::kShared, KiB(64));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  memfd_.Map()->data()[7] = 9;
  EXPECT_EQ(adopted->Map()->data()[7], 9);
}

TEST_F(KvmGuestMemfdRangeTest, ReleaseGivesTheDescriptor) {
  const int fd = memfd_.fd();
  const UniqueFd released = std::move(memfd_).Release();
  EXPECT_EQ(released.get(), fd);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace gmem::kvm
