// SPDX-License-Identifier: MIT OR Apache-2.0
// Real guests of a real KVM. A test skips, with the reason, if this machine's KVM lacks a feature.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/kvm/fd_table.h"
#include "gmem/kvm/guest_memfd.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/numa.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/kvm_guest.h"

namespace gmem::kvm {
namespace {

using doubles::GuestAccess;
using doubles::KvmGuest;

constexpr uint64_t kPage = KvmGuest::kPage;
constexpr uint64_t kData = 0x400000;

// The number of pages that a file has, by cachestat(2), which the C library doesn't know yet. No
// other counter includes the pages of a guest_memfd.
uint64_t CachedPages(int fd) {
  constexpr int64_t kCachestat = 451;
  uint64_t range[2] = {0, 0};
  uint64_t stat[5] = {};
  EXPECT_EQ(syscall(kCachestat, fd, range, stat, 0), 0);
  return stat[0];
}

sigjmp_buf touch_env;
void OnSigbus(int) { siglongjmp(touch_env, 1); }

// Does reading the byte raise SIGBUS?
bool IsOutOfReach(const volatile uint8_t* address) {
  struct sigaction handler = {};
  struct sigaction before = {};
  handler.sa_handler = OnSigbus;
  sigaction(SIGBUS, &handler, &before);
  // NOLINTNEXTLINE(cert-err52-cpp): the way to survive a signal
  const bool faulted = sigsetjmp(touch_env, 1) != 0;
  if (!faulted) (void)*address;
  sigaction(SIGBUS, &before, nullptr);
  return faulted;
}

class KvmGuestTest : public testing::Test {
 protected:
  void SetUp() override { Start(kDefaultVm); }

  void Start(uint64_t type) {
    auto guest = KvmGuest::Create(type);
    if (!guest.ok()) GTEST_SKIP() << guest.status();
    guest_ = *std::move(guest);
  }
  // nullopt if this KVM can't make one; reason_ says why.
  std::optional<GuestMemfd> NewGuestMemfd(ByteSize size, GuestMemfdKind kind) {
    auto memfd = guest_->vm().CreateGuestMemfd(size, kind);
    if (memfd.ok()) return *std::move(memfd);
    EXPECT_EQ(memfd.status().code(), absl::StatusCode::kUnimplemented) << memfd.status();
    reason_ = memfd.status();
    return std::nullopt;
  }

  std::unique_ptr<KvmGuest> guest_;
  absl::Status reason_;
};

TEST_F(KvmGuestTest, CapabilitiesMakeSense) {
  const Capabilities& caps = guest_->vm().capabilities();
  EXPECT_GE(caps.max_memslots, 32);
  // All of these came in one release, the flags later.
  EXPECT_EQ(caps.user_memory_region2, caps.memory_fault_exit);
  EXPECT_TRUE(caps.guest_memfd || caps.guest_memfd_flags == 0);
}

TEST_F(KvmGuestTest, PlainMemslot) {
  const UniqueFd memfd(memfd_create("plain", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memfd.get(), kPage), 0);
  const Mapping host = *Mapping::OfFile(memfd.get(), {.size = ByteSize(kPage)});
  host.data()[1] = 41;
  const GuestRange range = {GuestAddress(kData), ByteSize(kPage)};
  auto slot = guest_->vm().AddMemslot({.guest_address = range.start, .host = host.span()});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(guest_->Read(kData + 1).value, 41);
  EXPECT_TRUE(guest_->Write(kData + 2, 42).ok());
  EXPECT_EQ(host.data()[2], 42);

  slot->Reset();
  EXPECT_EQ(guest_->Read(kData + 1).error, EIO) << "an MMIO exit";
}

TEST_F(KvmGuestTest, ReadOnlyMemslot) {
  const UniqueFd memfd(memfd_create("rom", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memfd.get(), kPage), 0);
  const Mapping host = *Mapping::OfFile(memfd.get(), {.size = ByteSize(kPage)});
  host.data()[0] = 41;
  const auto slot = guest_->vm().AddMemslot(
      {.guest_address = GuestAddress(kData), .host = host.span(), .read_only = true});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(guest_->Read(kData).value, 41);
  EXPECT_EQ(guest_->Write(kData, 1).error, EIO) << "an MMIO exit";
  EXPECT_EQ(host.data()[0], 41);
}

TEST_F(KvmGuestTest, SharedGuestMemfd) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  const Mapping host = *memfd->Map();
  host.data()[kPage] = 41;
  const auto slot = guest_->vm().AddMemslot(
      {.guest_address = GuestAddress(kData), .host = host.span(), .guest_memfd = &*memfd});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(guest_->Read(kData + kPage).value, 41);
  EXPECT_TRUE(guest_->Write(kData + 1, 42).ok());
  EXPECT_EQ(host.data()[1], 42);

  ASSERT_TRUE(memfd->Discard({ByteOffset(0), ByteSize(kPage)}).ok());
  EXPECT_EQ(host.data()[1], 0);
  EXPECT_EQ(guest_->Read(kData + 1).value, 0);
  EXPECT_EQ(guest_->Read(kData + kPage).value, 41);
}

TEST_F(KvmGuestTest, TheSlotKeepsItsGuestMemfd) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  const Mapping host = *memfd->Map();
  host.data()[0] = 41;
  const auto slot = guest_->vm().AddMemslot(
      {.guest_address = GuestAddress(kData), .host = host.span(), .guest_memfd = &*memfd});
  ASSERT_TRUE(slot.ok()) << slot.status();
  memfd.reset();
  EXPECT_EQ(guest_->Read(kData).value, 41);
}

TEST_F(KvmGuestTest, AGuestMemfdIsInOneSlotOfItsOwnVm) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  const Mapping host = *memfd->Map();
  const auto slot = guest_->vm().AddMemslot(
      {.guest_address = GuestAddress(kData), .host = host.span(), .guest_memfd = &*memfd});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_FALSE(guest_->vm()
                   .AddMemslot({.guest_address = GuestAddress(2 * kData),
                                .host = host.span(),
                                .guest_memfd = &*memfd})
                   .ok());
  const auto other = KvmGuest::Create();
  ASSERT_TRUE(other.ok());
  const absl::Status status =
      (*other)
          ->vm()
          .AddMemslot(
              {.guest_address = GuestAddress(kData), .host = host.span(), .guest_memfd = &*memfd})
          .status();
  EXPECT_EQ(GetErrno(status), EINVAL);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("another VM's"));
  // The mapping is host memory like any other.
  const auto plain =
      (*other)->vm().AddMemslot({.guest_address = GuestAddress(kData), .host = host.span()});
  ASSERT_TRUE(plain.ok()) << plain.status();
  ASSERT_TRUE(guest_->Write(kData, 43).ok());
  EXPECT_EQ((*other)->Read(kData).value, 43);
}

TEST_F(KvmGuestTest, GuestOnlyMemoryIsOutOfTheHostsReach) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kGuestOnly);
  if (!memfd) GTEST_SKIP() << reason_;
  const Mapping host = *memfd->Map();
  const auto slot = guest_->vm().AddMemslot(
      {.guest_address = GuestAddress(kData), .host = host.span(), .guest_memfd = &*memfd});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_TRUE(IsOutOfReach(host.data()));
  const GuestAccess write = guest_->Write(kData, 42);
  if (write.error == EIO) GTEST_SKIP() << "this KVM emulates the guest, through host addresses";
  ASSERT_TRUE(write.ok());
  EXPECT_EQ(guest_->Read(kData).value, 42);
  EXPECT_TRUE(IsOutOfReach(host.data()));
}

TEST_F(KvmGuestTest, AllocateTakesMemoryAtOnce) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  EXPECT_EQ(CachedPages(memfd->fd()), 0);
  ASSERT_TRUE(memfd->Allocate({ByteOffset(0), KiB(12)}).ok());
  EXPECT_EQ(CachedPages(memfd->fd()), 3);
  ASSERT_TRUE(memfd->Discard({ByteOffset(kPage), ByteSize(kPage)}).ok());
  EXPECT_EQ(CachedPages(memfd->fd()), 2);
}

TEST_F(KvmGuestTest, AdoptKnowsAGuestMemfd) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  auto adopted =
      GuestMemfd::Adopt(*UniqueFd::Duplicate(memfd->fd()), GuestMemfdKind::kShared, KiB(16));
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  memfd->Map()->data()[3] = 9;
  EXPECT_EQ(adopted->Map()->data()[3], 9);
  EXPECT_FALSE(
      GuestMemfd::Adopt(*UniqueFd::Duplicate(memfd->fd()), GuestMemfdKind::kPrivate, KiB(16)).ok());

  auto hidden = NewGuestMemfd(KiB(16), GuestMemfdKind::kPrivate);
  ASSERT_TRUE(hidden.has_value()) << reason_;
  EXPECT_TRUE(
      GuestMemfd::Adopt(std::move(*hidden).Release(), GuestMemfdKind::kPrivate, KiB(16)).ok());
}

TEST_F(KvmGuestTest, NumaPolicyWhereTheKernelKeepsOne) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  const absl::Status status =
      SetNumaPolicy(memfd->fd(), memfd->range(), {.mode = NumaMode::kBind, .nodes = {0}});
  if (status.ok()) {
    EXPECT_TRUE(memfd->Allocate(memfd->range()).ok());
    EXPECT_TRUE(SetNumaPolicy(memfd->fd(), memfd->range(), {}).ok());
    return;
  }
  EXPECT_EQ(GetErrno(status), EOPNOTSUPP);
  GTEST_SKIP() << status;
}

// The test runs twice: the first run starts the second by exec(), as a VMM that replaces its
// program.
TEST_F(KvmGuestTest, ContentSurvivesExec) {
  if (std::getenv(FdTable::kVariable) == nullptr) {
    auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
    if (!memfd) GTEST_SKIP() << reason_;
    memfd->Map()->data()[kPage] = 42;
    FdTable table;
    ASSERT_TRUE(table.Save("ram", memfd->fd()).ok());
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::string variable = *table.PrepareExec();
      char* const environment[] = {variable.data(), nullptr};
      execle("/proc/self/exe", "next", "--gtest_filter=KvmGuestTest.ContentSurvivesExec",
             "--gtest_brief=1", nullptr, environment);
      _exit(127);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    return;
  }

  FdTable table = *FdTable::Inherit(std::getenv);
  auto fd = table.Take("ram");
  ASSERT_TRUE(fd.ok()) << fd.status();
  const auto memfd = GuestMemfd::Adopt(*std::move(fd), GuestMemfdKind::kShared, KiB(16));
  ASSERT_TRUE(memfd.ok()) << memfd.status();
  const Mapping host = *memfd->Map();
  EXPECT_EQ(host.data()[kPage], 42);
  // The file still belongs to the old VM.
  EXPECT_EQ(GetErrno(guest_->vm()
                         .AddMemslot({.guest_address = GuestAddress(kData),
                                      .host = host.span(),
                                      .guest_memfd = &*memfd})
                         .status()),
            EINVAL);
  const auto slot =
      guest_->vm().AddMemslot({.guest_address = GuestAddress(kData), .host = host.span()});
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(guest_->Read(kData + kPage).value, 42);
  EXPECT_TRUE(guest_->Write(kData, 43).ok());
  EXPECT_EQ(host.data()[0], 43);
}

// KVM keeps no reference to a slot's file. The test closes all other references behind the
// library's back.
TEST_F(KvmGuestTest, AccessToAClosedGuestMemfdIsAMemoryFault) {
  auto memfd = NewGuestMemfd(KiB(16), GuestMemfdKind::kShared);
  if (!memfd) GTEST_SKIP() << reason_;
  const Mapping host = *Mapping::Reserve(KiB(16));
  kvm_userspace_memory_region2 region = {};
  region.slot = 100;
  region.flags = KVM_MEM_GUEST_MEMFD;
  region.guest_phys_addr = kData;
  region.memory_size = 4 * kPage;
  region.userspace_addr = reinterpret_cast<uintptr_t>(host.data());
  region.guest_memfd = static_cast<uint32_t>(memfd->fd());
  ASSERT_EQ(ioctl(guest_->vm().fd(), KVM_SET_USER_MEMORY_REGION2, &region), 0);
  memfd.reset();
  const GuestAccess access = guest_->Read(kData + kPage + 5);
  if (access.error == EIO) GTEST_SKIP() << "this KVM emulates the guest, through host addresses";
  ASSERT_TRUE(access.fault.has_value()) << access.error;
  EXPECT_EQ(access.fault->range, (GuestRange{GuestAddress(kData + kPage), ByteSize(kPage)}));
  EXPECT_FALSE(access.fault->is_private);
}

// VMs whose private memory needs no special hardware.
class KvmPrivateGuestTest : public KvmGuestTest {
 protected:
  void SetUp() override {
    Start(kSoftwareProtectedVm);
    if (IsSkipped()) return;
    ASSERT_EQ(ftruncate(host_fd_.get(), kSize), 0);
    host_ = *Mapping::OfFile(host_fd_.get(), {.size = ByteSize(kSize)});
    memfd_ = NewGuestMemfd(ByteSize(kSize), GuestMemfdKind::kPrivate);
    ASSERT_TRUE(memfd_.has_value()) << reason_;
    auto slot = guest_->vm().AddMemslot(
        {.guest_address = GuestAddress(kData), .host = host_.span(), .guest_memfd = &*memfd_});
    ASSERT_TRUE(slot.ok()) << slot.status();
    slot_ = *std::move(slot);
  }

  static constexpr uint64_t kSize = 4 * kPage;
  UniqueFd host_fd_{memfd_create("host", MFD_CLOEXEC)};
  Mapping host_;
  std::optional<GuestMemfd> memfd_;
  Memslot slot_;
};

TEST_F(KvmPrivateGuestTest, LendAndShare) {
  ASSERT_TRUE(guest_->vm().capabilities().CheckPrivateMemory().ok());
  host_.data()[0] = 41;
  host_.data()[kPage] = 51;
  EXPECT_EQ(guest_->Read(kData).value, 41) << "shared at first";

  const GuestRange first = {GuestAddress(kData), ByteSize(kPage)};
  ASSERT_TRUE(slot_.Lend(first).ok());
  EXPECT_EQ(host_.data()[0], 0) << "the host's half was freed";
  EXPECT_EQ(guest_->Read(kData).value, 0);
  ASSERT_TRUE(guest_->Write(kData, 42).ok());
  EXPECT_EQ(host_.data()[0], 0) << "the guest's half isn't the host's";
  EXPECT_EQ(guest_->Read(kData + kPage).value, 51) << "the neighbour stays shared";

  ASSERT_TRUE(slot_.Share(first).ok());
  host_.data()[0] = 43;
  EXPECT_EQ(guest_->Read(kData).value, 43);
  ASSERT_TRUE(slot_.Lend(first).ok());
  EXPECT_EQ(guest_->Read(kData).value, 0) << "the guest's half was freed, too";
}

TEST_F(KvmPrivateGuestTest, PrivateAccessWithoutPrivateMemoryIsAMemoryFault) {
  const GuestRange page = {GuestAddress(2 * kData), ByteSize(kPage)};
  const Mapping plain = *Mapping::OfFile(host_fd_.get(), {.size = ByteSize(kPage)});
  const auto slot = guest_->vm().AddMemslot({.guest_address = page.start, .host = plain.span()});
  ASSERT_TRUE(slot.ok()) << slot.status();
  ASSERT_TRUE(guest_->vm().SetPrivate(page).ok());
  const GuestAccess access = guest_->Write(2 * kData + 1, 7);
  EXPECT_EQ(access.error, EFAULT);
  ASSERT_TRUE(access.fault.has_value());
  EXPECT_EQ(access.fault->range, page);
  EXPECT_TRUE(access.fault->is_private);
  EXPECT_FALSE(access.fault->is_poisoned);

  ASSERT_TRUE(guest_->vm().SetShared(page).ok());
  EXPECT_TRUE(guest_->Resume().ok());
  EXPECT_EQ(plain.data()[1], 7);
}

TEST_F(KvmPrivateGuestTest, NoSharedGuestMemfd) {
  const absl::Status status = guest_->vm().CreateGuestMemfd(KiB(4)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
}

}  // namespace
}  // namespace gmem::kvm
