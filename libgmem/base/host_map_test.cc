// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/host_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::internal {
namespace {

TEST(HostMapTest, FailureKeepsTheOldMapping) {
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 8192), 0);
  auto memory = Mapping::Reserve(KiB(8));
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(MapOver(memory->span(), file.get(), ByteOffset(0), MemoryAccess::kReadWrite).ok());
  memory->data()[4096] = 7;

  EXPECT_EQ(GetErrno(MapOver(memory->span(), -1, ByteOffset(0), MemoryAccess::kReadWrite)), EBADF);
  EXPECT_EQ(GetErrno(MapOver(memory->span(), file.get(), ByteOffset(1), MemoryAccess::kReadWrite)),
            EINVAL);
  EXPECT_EQ(memory->data()[4096], 7);
}

TEST(HostMapTest, OnlyTheAddressesGiven) {
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 12288), 0);
  auto memory = Mapping::Reserve(KiB(12));
  ASSERT_TRUE(memory.ok());
  ASSERT_TRUE(MapOver(memory->span(), file.get(), ByteOffset(0), MemoryAccess::kReadWrite).ok());
  memory->data()[0] = 1;
  memory->data()[8192] = 3;
  ASSERT_TRUE(ReserveOver(memory->span({ByteOffset(4096), KiB(4)})).ok());
  EXPECT_EQ(memory->data()[0], 1);
  EXPECT_EQ(memory->data()[8192], 3);
  EXPECT_DEATH(memory->data()[4096] = 1, "");
}

TEST(HostMapTest, AddressesThatCantBeMapped) {
  const UniqueFd file(memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), 4096), 0);
  auto memory = Mapping::Reserve(KiB(8));
  ASSERT_TRUE(memory.ok());
  const absl::Span<uint8_t> crooked(memory->data() + 1, 4096);
  EXPECT_EQ(GetErrno(MapOver(crooked, file.get(), ByteOffset(0), MemoryAccess::kReadOnly)), EINVAL);
  EXPECT_EQ(GetErrno(ReserveOver(crooked)), EINVAL);
}

}  // namespace
}  // namespace gmem::internal
