// SPDX-License-Identifier: MIT OR Apache-2.0
// A region as a real guest sees it.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>

#include "gmem/kvm/memory_mapper.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "testing/kvm_guest.h"

namespace gmem::kvm {
namespace {

using doubles::GuestAccess;
using doubles::KvmGuest;

constexpr uint64_t kPage = KvmGuest::kPage;
constexpr uint64_t kRegion = 0x40000000;

// With KVM's interrupt controller and without: only with it may KVM wait for a page in the
// background, and try again for ever.
class KvmMapperGuestTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    auto guest = KvmGuest::Create(kDefaultVm, GetParam());
    if (!guest.ok()) GTEST_SKIP() << guest.status();
    guest_ = *std::move(guest);
    auto mapper = NewMemoryMapper(guest_->vm(), {GuestAddress(kRegion), MiB(4)});
    ASSERT_TRUE(mapper.ok()) << mapper.status();
    mapper_ = *std::move(mapper);
    ASSERT_EQ(ftruncate(file_fd_.get(), 4 * kPage), 0);
    file_ = *Mapping::OfFile(file_fd_.get(), {.size = ByteSize(4 * kPage)});
    for (uint64_t page = 0; page < 4; ++page) file_.data()[page * kPage] = 40 + page;
  }

  MemoryMapper::Piece Piece(uint64_t page) const {
    return {.fd = file_fd_.get(),
            .fd_offset = ByteOffset(page * kPage),
            .offset = ByteOffset(0),
            .size = ByteSize(kPage),
            .access = MemoryAccess::kReadWrite};
  }
  // The VMM learns of the access, by EFAULT or by an MMIO exit.
  static void ExpectRefused(const GuestAccess& access) {
    EXPECT_TRUE(access.error == EFAULT || access.error == EIO) << access.error;
    EXPECT_FALSE(access.fault.has_value());
  }

  std::unique_ptr<KvmGuest> guest_;
  std::unique_ptr<MemoryMapper> mapper_;
  UniqueFd file_fd_{memfd_create("file", MFD_CLOEXEC)};
  Mapping file_;
};

TEST_P(KvmMapperGuestTest, SeesThePiece) {
  ASSERT_TRUE(mapper_->Map(Piece(1)).ok());
  EXPECT_EQ(guest_->Read(kRegion).value, 41);
  ASSERT_TRUE(guest_->Write(kRegion + 1, 7).ok());
  EXPECT_EQ(file_.data()[kPage + 1], 7);

  // The next access sees another page at the same address.
  ASSERT_TRUE(mapper_->UnmapAll().ok());
  ASSERT_TRUE(mapper_->Map(Piece(2)).ok());
  EXPECT_EQ(guest_->Read(kRegion).value, 42);
}

TEST_P(KvmMapperGuestTest, HolesExitToTheVmm) {
  ExpectRefused(guest_->Read(kRegion));
  ExpectRefused(guest_->Write(kRegion + kPage, 1));
  ASSERT_TRUE(mapper_->Map(Piece(1)).ok());
  EXPECT_EQ(guest_->Read(kRegion).value, 41);
  ASSERT_TRUE(mapper_->Unmap(Piece(1).range()).ok());
  ExpectRefused(guest_->Read(kRegion));
  EXPECT_EQ(file_.data()[kPage], 41);
}

TEST_P(KvmMapperGuestTest, MapOnDemand) {
  const GuestAccess access = guest_->Read(kRegion);
  if (access.error == EIO) GTEST_SKIP() << "this KVM emulates the guest: an MMIO exit";
  ExpectRefused(access);
  ASSERT_TRUE(mapper_->Map(Piece(3)).ok());
  const GuestAccess again = guest_->Resume();
  EXPECT_TRUE(again.ok());
  EXPECT_EQ(again.value, 43);
}

TEST_P(KvmMapperGuestTest, ReadOnlyPieces) {
  MemoryMapper::Piece piece = Piece(1);
  piece.access = MemoryAccess::kReadOnly;
  ASSERT_TRUE(mapper_->Map(piece).ok());
  EXPECT_EQ(guest_->Read(kRegion).value, 41);
  ExpectRefused(guest_->Write(kRegion, 1));
  EXPECT_EQ(file_.data()[kPage], 41);
}

TEST_P(KvmMapperGuestTest, TheDestructorFreesTheAddresses) {
  ASSERT_TRUE(mapper_->Map(Piece(1)).ok());
  EXPECT_EQ(guest_->Read(kRegion).value, 41);
  mapper_.reset();
  EXPECT_EQ(guest_->Read(kRegion).error, EIO) << "an MMIO exit";
}

INSTANTIATE_TEST_SUITE_P(Irqchip, KvmMapperGuestTest, testing::Bool());

}  // namespace
}  // namespace gmem::kvm
