// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memslot.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/fake_kvm.h"

namespace gmem::kvm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr uint64_t kPage = 4096;
constexpr GuestAddress kBase(0x100000);

std::string Message(const absl::Status& status) { return std::string(status.message()); }

uint64_t Allocated(int fd) {
  struct stat stat = {};
  EXPECT_EQ(fstat(fd, &stat), 0);
  return static_cast<uint64_t>(stat.st_blocks) * 512;
}

class KvmMemslotTest : public testing::Test {
 protected:
  Vm NewVm(uint32_t first_memslot = 0) { return *Vm::Adopt(kvm_.NewVm(), first_memslot); }

  doubles::FakeKvm kvm_;
  Mapping host_ = *Mapping::Reserve(KiB(64));
};

TEST_F(KvmMemslotTest, PassesAllValuesToKvm) {
  const Vm vm = NewVm();
  const auto slot = vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(slot->range(), (GuestRange{kBase, KiB(64)}));
  ASSERT_EQ(kvm_.memslots().size(), 1);
  const kvm_userspace_memory_region2& region = kvm_.memslots().at(slot->id());
  EXPECT_EQ(region.flags, 0);
  EXPECT_EQ(region.guest_phys_addr, kBase.value());
  EXPECT_EQ(region.memory_size, 65536);
  EXPECT_EQ(region.userspace_addr, reinterpret_cast<uintptr_t>(host_.data()));
  EXPECT_EQ(region.guest_memfd, 0);
}

TEST_F(KvmMemslotTest, PassesTheGuestMemfdToKvm) {
  const Vm vm = NewVm();
  const GuestMemfd memfd = *vm.CreateGuestMemfd(KiB(128));
  const Mapping host = *memfd.Map({ByteOffset(65536), KiB(64)});
  const auto slot = vm.AddMemslot({.guest_address = kBase,
                                   .host = host.span(),
                                   .guest_memfd = &memfd,
                                   .guest_memfd_offset = ByteOffset(65536)});
  ASSERT_TRUE(slot.ok()) << slot.status();
  const kvm_userspace_memory_region2& region = kvm_.memslots().at(slot->id());
  EXPECT_EQ(region.flags, KVM_MEM_GUEST_MEMFD);
  EXPECT_EQ(region.guest_memfd_offset, 65536);
  struct stat of_slot = {};
  struct stat of_memfd = {};
  ASSERT_EQ(fstat(static_cast<int>(region.guest_memfd), &of_slot), 0);
  ASSERT_EQ(fstat(memfd.fd(), &of_memfd), 0);
  EXPECT_EQ(of_slot.st_ino, of_memfd.st_ino);
}

TEST_F(KvmMemslotTest, Flags) {
  const Vm vm = NewVm();
  const auto slot = vm.AddMemslot(
      {.guest_address = kBase, .host = host_.span(), .read_only = true, .log_dirty_pages = true});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(kvm_.memslots().at(slot->id()).flags, KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES);
}

TEST_F(KvmMemslotTest, OlderKernelGetsTheOlderCall) {
  kvm_.SetCapability(KVM_CAP_USER_MEMORY2, 0);
  const Vm vm = NewVm();
  const auto slot = vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(kvm_.memslots().at(slot->id()).guest_phys_addr, kBase.value());
  EXPECT_THAT(kvm_.requests(), Contains(KVM_SET_USER_MEMORY_REGION));
  EXPECT_THAT(kvm_.requests(), Not(Contains(KVM_SET_USER_MEMORY_REGION2)));
}

TEST_F(KvmMemslotTest, IsRemovedWithItsOwner) {
  const Vm vm = NewVm();
  {
    const auto slot = vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
    EXPECT_EQ(kvm_.memslots().size(), 1);
  }
  EXPECT_TRUE(kvm_.memslots().empty());
}

TEST_F(KvmMemslotTest, MovesWithItsOwner) {
  const Vm vm = NewVm();
  const auto half = host_.span().first(kPage);
  Memslot a = *vm.AddMemslot({.guest_address = GuestAddress(0), .host = half});
  Memslot b = *vm.AddMemslot({.guest_address = kBase, .host = half});
  const uint32_t id = a.id();
  b = std::move(a);
  EXPECT_EQ(b.id(), id);
  EXPECT_EQ(b.range().start, GuestAddress(0));
  EXPECT_EQ(kvm_.memslots().size(), 1);
  b.Reset();
  EXPECT_FALSE(b.is_valid());
  EXPECT_TRUE(kvm_.memslots().empty());
  b.Reset();
}

TEST_F(KvmMemslotTest, RemovalThatFailsCanBeTriedAgain) {
  const Vm vm = NewVm();
  Memslot slot = *vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  kvm_.FailNext(KVM_SET_USER_MEMORY_REGION2, ENOMEM);
  const absl::Status status = slot.Remove();
  EXPECT_EQ(GetErrno(status), ENOMEM);
  EXPECT_THAT(Message(status), HasSubstr("still there"));
  EXPECT_TRUE(slot.is_valid());
  EXPECT_EQ(kvm_.memslots().size(), 1);
  EXPECT_TRUE(slot.Remove().ok());
  EXPECT_FALSE(slot.is_valid());
  EXPECT_TRUE(kvm_.memslots().empty());
  EXPECT_TRUE(slot.Remove().ok());
}

TEST_F(KvmMemslotTest, ANumberThatIsStillInUseIsntUsedAgain) {
  const Vm vm = NewVm();
  const auto half = host_.span().first(kPage);
  Memslot slot = *vm.AddMemslot({.guest_address = kBase, .host = half});
  kvm_.FailNext(KVM_SET_USER_MEMORY_REGION2, ENOMEM);
  slot.Reset();
  EXPECT_FALSE(slot.is_valid());
  EXPECT_EQ(vm.AddMemslot({.guest_address = GuestAddress(0), .host = half})->id(), 1);
}

TEST_F(KvmMemslotTest, OutlivesItsVm) {
  std::optional<Vm> vm = NewVm();
  Memslot slot = *vm->AddMemslot({.guest_address = kBase, .host = host_.span()});
  vm.reset();
  EXPECT_EQ(kvm_.memslots().size(), 1);
  slot.Reset();
  EXPECT_TRUE(kvm_.memslots().empty());
}

TEST_F(KvmMemslotTest, NumbersAreUsedAgain) {
  const Vm vm = NewVm(5);
  const auto page = host_.span().first(kPage);
  std::vector<Memslot> slots;
  for (uint64_t i = 0; i < 4; ++i) {
    slots.push_back(*vm.AddMemslot({.guest_address = GuestAddress(i * kPage), .host = page}));
    EXPECT_EQ(slots.back().id(), 5 + i);
  }
  slots[1].Reset();
  EXPECT_EQ(vm.AddMemslot({.guest_address = GuestAddress(kPage), .host = page})->id(), 6);
}

TEST_F(KvmMemslotTest, NumbersRunOut) {
  kvm_.SetCapability(KVM_CAP_NR_MEMSLOTS, 2);
  const Vm vm = NewVm(1);
  const Memslot first = *vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  const auto second = vm.AddMemslot({.guest_address = GuestAddress(0), .host = host_.span()});
  EXPECT_EQ(GetErrno(second.status()), ENOSPC);
  EXPECT_THAT(Message(second.status()), HasSubstr("remove one first"));
}

TEST_F(KvmMemslotTest, ARefusedMemslotUsesNoNumber) {
  const Vm vm = NewVm();
  const Memslot first = *vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  const auto overlap = vm.AddMemslot({.guest_address = kBase, .host = host_.span()});
  EXPECT_EQ(overlap.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Message(overlap.status()), HasSubstr("64 KiB at guest address 0x100000"));
  kvm_.FailNext(KVM_SET_USER_MEMORY_REGION2, EIO);
  EXPECT_THAT(Message(vm.AddMemslot({.host = host_.span()}).status()),
              HasSubstr("another process"));
  EXPECT_EQ(vm.AddMemslot({.host = host_.span()})->id(), 1);
}

TEST_F(KvmMemslotTest, RefusesInvalidOptions) {
  const Vm vm = NewVm();
  const GuestMemfd memfd = *vm.CreateGuestMemfd(KiB(64));
  const auto code = [&vm](const MemslotOptions& options) {
    return GetErrno(vm.AddMemslot(options).status());
  };
  const auto all = host_.span();
  EXPECT_EQ(code({}), EINVAL);
  EXPECT_EQ(code({.host = all.first(100)}), EINVAL);
  EXPECT_EQ(code({.host = all.subspan(100, kPage)}), EINVAL);
  EXPECT_EQ(code({.guest_address = GuestAddress(100), .host = all}), EINVAL);
  EXPECT_EQ(code({.guest_address = GuestAddress(-4096), .host = all}), EOVERFLOW);
  EXPECT_EQ(code({.host = all, .guest_memfd = &memfd, .read_only = true}), EINVAL);
  EXPECT_EQ(code({.host = all, .guest_memfd = &memfd, .log_dirty_pages = true}), EINVAL);
  EXPECT_EQ(code({.host = all, .guest_memfd = &memfd, .guest_memfd_offset = ByteOffset(4096)}),
            EINVAL);
  EXPECT_EQ(
      code(
          {.host = all.first(kPage), .guest_memfd = &memfd, .guest_memfd_offset = ByteOffset(100)}),
      EINVAL);
  kvm_.SetCapability(KVM_CAP_READONLY_MEM, 0);
  EXPECT_EQ(GetErrno(NewVm().AddMemslot({.host = all, .read_only = true}).status()), EOPNOTSUPP);
  EXPECT_THAT(kvm_.requests(), Not(Contains(KVM_SET_USER_MEMORY_REGION2)));
}

// A VM with private memory, and a memslot whose two halves are files.
class KvmConversionTest : public KvmMemslotTest {
 protected:
  KvmConversionTest() {
    EXPECT_EQ(ftruncate(host_fd_.get(), 65536), 0);
    host_half_ = *Mapping::OfFile(host_fd_.get(), {.size = KiB(64)});
    EXPECT_EQ(posix_fallocate(host_fd_.get(), 0, 65536), 0);
    EXPECT_TRUE(memfd_.Allocate(memfd_.range()).ok());
  }

  Vm MakeVm() {
    kvm_.SetCapability(KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE);
    return NewVm();
  }
  Memslot MakeSlot(absl::Span<uint8_t> host, const GuestMemfd& memfd,
                   ByteOffset offset = ByteOffset(0)) {
    return *vm_.AddMemslot({.guest_address = kBase,
                            .host = host,
                            .guest_memfd = &memfd,
                            .guest_memfd_offset = offset});
  }

  Vm vm_ = MakeVm();
  GuestMemfd memfd_ = *vm_.CreateGuestMemfd(KiB(64), GuestMemfdKind::kPrivate);
  UniqueFd host_fd_{memfd_create("host", MFD_CLOEXEC)};
  Mapping host_half_;
};

TEST_F(KvmConversionTest, LendFreesTheHostsHalf) {
  Memslot slot = MakeSlot(host_half_.span(), memfd_);
  const GuestRange range = {kBase + KiB(4), KiB(8)};
  ASSERT_TRUE(slot.Lend(range).ok());
  ASSERT_EQ(kvm_.attributes().size(), 1);
  EXPECT_EQ(kvm_.attributes()[0].address, kBase.value() + kPage);
  EXPECT_EQ(kvm_.attributes()[0].size, 2 * kPage);
  EXPECT_EQ(kvm_.attributes()[0].attributes, KVM_MEMORY_ATTRIBUTE_PRIVATE);
  EXPECT_EQ(Allocated(host_fd_.get()), 65536 - 2 * kPage);
  EXPECT_EQ(Allocated(memfd_.fd()), 65536);
}

TEST_F(KvmConversionTest, ShareFreesTheGuestsHalf) {
  Memslot slot = MakeSlot(host_half_.span().first(2 * kPage), memfd_, ByteOffset(kPage));
  const Mapping guest_half = *Mapping::OfFile(memfd_.fd(), {.size = KiB(64)});
  for (uint64_t page = 0; page < 4; ++page) guest_half.data()[page * kPage] = 1;
  ASSERT_TRUE(slot.Share({kBase + KiB(4), KiB(4)}).ok());
  EXPECT_EQ(kvm_.attributes().at(0).attributes, 0);
  EXPECT_EQ(Allocated(memfd_.fd()), 65536 - kPage);
  EXPECT_EQ(guest_half.data()[kPage], 1);
  EXPECT_EQ(guest_half.data()[2 * kPage], 0) << "the slot's second page is the file's third";
  EXPECT_EQ(Allocated(host_fd_.get()), 65536);
}

TEST_F(KvmConversionTest, LendFreesPrivateHostMemory) {
  void* const anonymous =
      mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(anonymous, MAP_FAILED);
  auto* const bytes = static_cast<uint8_t*>(anonymous);
  bytes[0] = bytes[kPage] = 7;
  Memslot slot = MakeSlot({bytes, 65536}, memfd_);
  ASSERT_TRUE(slot.Lend({kBase, KiB(4)}).ok());
  EXPECT_EQ(bytes[0], 0);
  EXPECT_EQ(bytes[kPage], 7);
  munmap(anonymous, 65536);
}

TEST_F(KvmConversionTest, OneMemoryForBothKeepsItsContent) {
  const GuestMemfd memfd = *vm_.CreateGuestMemfd(KiB(64), GuestMemfdKind::kGuestOnly);
  ASSERT_TRUE(memfd.Allocate(memfd.range()).ok());
  Memslot slot = MakeSlot(host_half_.span(), memfd);
  ASSERT_TRUE(slot.Lend({kBase, KiB(64)}).ok());
  ASSERT_TRUE(slot.Share({kBase, KiB(64)}).ok());
  EXPECT_EQ(kvm_.attributes().size(), 2);
  EXPECT_EQ(Allocated(memfd.fd()), 65536);
  EXPECT_EQ(Allocated(host_fd_.get()), 65536);
}

TEST_F(KvmConversionTest, KvmsRefusalChangesNothing) {
  Memslot slot = MakeSlot(host_half_.span(), memfd_);
  kvm_.FailNext(KVM_SET_MEMORY_ATTRIBUTES, ENOMEM);
  EXPECT_EQ(GetErrno(slot.Lend({kBase, KiB(4)})), ENOMEM);
  kvm_.FailNext(KVM_SET_MEMORY_ATTRIBUTES, ENOMEM);
  EXPECT_EQ(GetErrno(slot.Share({kBase, KiB(4)})), ENOMEM);
  EXPECT_EQ(Allocated(host_fd_.get()), 65536);
  EXPECT_EQ(Allocated(memfd_.fd()), 65536);
}

// Locked memory can't be freed. The range is lent all the same, and the error says so.
TEST_F(KvmConversionTest, SaysWhenTheHostsHalfStays) {
  void* const locked =
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
  ASSERT_NE(locked, MAP_FAILED);
  Memslot slot = MakeSlot({static_cast<uint8_t*>(locked), kPage}, memfd_);
  const absl::Status status = slot.Lend({kBase, KiB(4)});
  EXPECT_THAT(Message(status), StartsWith("lent, but can't free the host's half"));
  EXPECT_EQ(GetErrno(status), EINVAL);
  EXPECT_EQ(kvm_.attributes().size(), 1);
  munmap(locked, kPage);
}

TEST_F(KvmConversionTest, RefusesInvalidRanges) {
  Memslot slot = MakeSlot(host_half_.span(), memfd_);
  Memslot plain = *vm_.AddMemslot({.host = host_half_.span()});
  EXPECT_EQ(plain.Lend({GuestAddress(0), KiB(4)}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Memslot().Share({kBase, KiB(4)}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetErrno(slot.Lend({kBase, KiB(68)})), EINVAL);
  EXPECT_EQ(GetErrno(slot.Lend({GuestAddress(0), KiB(4)})), EINVAL);
  EXPECT_EQ(GetErrno(slot.Lend({kBase, ByteSize(100)})), EINVAL);
  EXPECT_EQ(GetErrno(slot.Share({kBase, ByteSize(0)})), EINVAL);
  EXPECT_TRUE(kvm_.attributes().empty());
}

}  // namespace
}  // namespace gmem::kvm
