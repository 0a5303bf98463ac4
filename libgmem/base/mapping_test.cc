// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/mapping.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <utility>

#include "gmem/status.h"
#include "gmem/unique_fd.h"

namespace gmem {
namespace {

UniqueFd NewFile(ByteSize size) {
  UniqueFd fd(memfd_create("mapping_test", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size.value())), 0);
  return fd;
}

bool IsMapped(const void* address) {
  unsigned char resident;
  return mincore(const_cast<void*>(address), 1, &resident) == 0;
}

TEST(MappingTest, OfFileIsShared) {
  UniqueFd fd = NewFile(KiB(8));
  auto a = Mapping::OfFile(fd.get(), {.size = KiB(8)});
  auto b = Mapping::OfFile(fd.get(), {.offset = ByteOffset(4096), .size = KiB(4)});
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->size(), 8192U);
  a->span()[4096] = 7;
  EXPECT_EQ(b->data()[0], 7);
}

TEST(MappingTest, ReadOnly) {
  UniqueFd fd = NewFile(KiB(4));
  auto mapping = Mapping::OfFile(fd.get(), {.size = KiB(4), .access = MemoryAccess::kReadOnly});
  ASSERT_TRUE(mapping.ok());
  EXPECT_DEATH(mapping->data()[0] = 1, "");
}

TEST(MappingTest, OfFileErrors) {
  UniqueFd fd = NewFile(KiB(4));
  EXPECT_EQ(GetErrno(Mapping::OfFile(-1, {.size = KiB(4)}).status()), EBADF);
  EXPECT_EQ(GetErrno(Mapping::OfFile(fd.get(), {}).status()), EINVAL);
}

TEST(MappingTest, MoveAndReset) {
  auto reserved = Mapping::Reserve(KiB(4));
  ASSERT_TRUE(reserved.ok());
  uint8_t* const address = reserved->data();
  Mapping a = *std::move(reserved);
  Mapping b = std::move(a);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  EXPECT_EQ(b.data(), address);
  Mapping& same = b;
  b = std::move(same);
  EXPECT_TRUE(IsMapped(address));
  b = Mapping();
  EXPECT_FALSE(IsMapped(address));
}

TEST(MappingTest, ReserveIsAligned) {
  auto reserved = Mapping::Reserve(MiB(4), MiB(2));
  ASSERT_TRUE(reserved.ok()) << reserved.status();
  EXPECT_EQ(reserved->size(), MiB(4).value());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(reserved->data()) % MiB(2).value(), 0U);
  EXPECT_TRUE(IsMapped(reserved->data()));
  EXPECT_TRUE(IsMapped(reserved->data() + reserved->size() - KiB(4).value()));
  EXPECT_DEATH(reserved->data()[0] = 1, "");
}

TEST(MappingTest, ReserveErrors) {
  EXPECT_EQ(GetErrno(Mapping::Reserve(ByteSize(0)).status()), EINVAL);
  EXPECT_EQ(GetErrno(Mapping::Reserve(ByteSize(100)).status()), EINVAL);
  EXPECT_EQ(GetErrno(Mapping::Reserve(KiB(4), ByteSize(12288)).status()), EINVAL);
  const ByteSize most(std::numeric_limits<uint64_t>::max() - 0xfff);
  EXPECT_EQ(GetErrno(Mapping::Reserve(most).status()), ENOMEM);
  EXPECT_EQ(GetErrno(Mapping::Reserve(most, MiB(2)).status()), ENOMEM);
}

TEST(MappingTest, SpanOfRange) {
  auto reserved = Mapping::Reserve(KiB(8));
  ASSERT_TRUE(reserved.ok());
  EXPECT_EQ(reserved->span({ByteOffset(4096), KiB(4)}).data(), reserved->data() + 4096);
  EXPECT_TRUE(reserved->span({ByteOffset(4096), KiB(8)}).empty());
  EXPECT_TRUE(reserved->span({ByteOffset(std::numeric_limits<uint64_t>::max()), KiB(4)}).empty());
}

TEST(MappingTest, ReleaseKeepsMapped) {
  auto reserved = Mapping::Reserve(KiB(4));
  ASSERT_TRUE(reserved.ok());
  const absl::Span<uint8_t> memory = reserved->Release();
  EXPECT_EQ(reserved->data(), nullptr);
  EXPECT_TRUE(IsMapped(memory.data()));
  munmap(memory.data(), memory.size());
}

// The kernel would map 2 MiB of the file, over any mapping that is there.
TEST(MappingTest, TakesWholeHugePagesOnly) {
  const UniqueFd file(memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB));
  if (!file) GTEST_SKIP() << "no hugetlb here";
  ASSERT_EQ(ftruncate(file.get(), 4 << 20), 0);
  const auto mapping = Mapping::OfFile(file.get(), {.size = KiB(4)});
  EXPECT_EQ(GetErrno(mapping.status()), EINVAL) << mapping.status();
}

}  // namespace
}  // namespace gmem
