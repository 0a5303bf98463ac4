// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memory_mapper.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "kvm/abi.h"
#include "testing/fake_kvm.h"

namespace gmem::kvm {
namespace {

using testing::HasSubstr;

constexpr GuestRange kRegion = {GuestAddress(uint64_t{1} << 30), MiB(4)};
constexpr uint64_t kPage = 4096;

UniqueFd NewFile(uint64_t size) {
  UniqueFd fd(memfd_create("piece", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

class KvmMemoryMapperTest : public testing::Test {
 protected:
  // The region's only memslot. The guest sees its host memory.
  const kvm_userspace_memory_region2& Slot() const { return kvm_.memslots().begin()->second; }
  uint8_t* HostAddress(uint64_t offset) const {
    return reinterpret_cast<uint8_t*>(Slot().userspace_addr) + offset;
  }
  // Asks the kernel, by a call that fails where a touch would raise SIGSEGV.
  bool IsReadable(uint64_t offset) const {
    int pipe_ends[2];
    EXPECT_EQ(pipe(pipe_ends), 0);
    const UniqueFd in(pipe_ends[0]);
    const UniqueFd out(pipe_ends[1]);
    return write(out.get(), HostAddress(offset), 1) == 1;
  }

  doubles::FakeKvm kvm_;
  Vm vm_ = *Vm::Adopt(kvm_.NewVm());
  UniqueFd file_ = NewFile(4 * kPage);
};

// A memslot that stays still shows the guest these addresses, so nothing else may be mapped there.
// (FakeKvm fails only once, so a second try may work.)
TEST_F(KvmMemoryMapperTest, KeepsItsAddressesIfRemovingTheMemslotFails) {
  auto mapper = NewMemoryMapper(vm_, kRegion);
  ASSERT_TRUE(mapper.ok()) << mapper.status();
  uint8_t* const host = HostAddress(0);
  kvm_.FailNext(KVM_SET_USER_MEMORY_REGION2, ENOMEM);
  mapper->reset();
  EXPECT_EQ(msync(host, kRegion.size.value(), MS_ASYNC), 0);
  munmap(host, kRegion.size.value());
}

TEST_F(KvmMemoryMapperTest, BoundsItsPieces) {
  for (const size_t count : {size_t{0}, size_t{1} << 21, SIZE_MAX}) {
    EXPECT_EQ(GetErrno(NewMemoryMapper(vm_, kRegion, {.max_pieces = count}).status()), EINVAL);
  }
  EXPECT_TRUE(kvm_.memslots().empty());
}

TEST_F(KvmMemoryMapperTest, IsOneMemslot) {
  auto mapper = NewMemoryMapper(vm_, kRegion);
  ASSERT_TRUE(mapper.ok()) << mapper.status();
  EXPECT_EQ((*mapper)->size(), MiB(4));
  EXPECT_EQ((*mapper)->page_size(), ByteSize(kPage));
  ASSERT_EQ(kvm_.memslots().size(), 1);
  EXPECT_EQ(Slot().guest_phys_addr, kRegion.start.value());
  EXPECT_EQ(Slot().memory_size, MiB(4).value());
  EXPECT_EQ(Slot().userspace_addr % MiB(2).value(), 0) << "for huge pages";
  EXPECT_FALSE(IsReadable(0));

  ASSERT_TRUE((*mapper)->Map({.fd = file_.get(), .size = ByteSize(kPage)}).ok());
  EXPECT_EQ(kvm_.memslots().size(), 1);
  mapper->reset();
  EXPECT_TRUE(kvm_.memslots().empty());
}

TEST_F(KvmMemoryMapperTest, MapsAndUnmaps) {
  const auto mapper = *NewMemoryMapper(vm_, kRegion);
  const Mapping file = *Mapping::OfFile(file_.get(), {.size = ByteSize(4 * kPage)});
  file.data()[kPage] = 41;
  ASSERT_TRUE(mapper
                  ->Map({.fd = file_.get(),
                         .fd_offset = ByteOffset(kPage),
                         .offset = ByteOffset(8 * kPage),
                         .size = ByteSize(2 * kPage)})
                  .ok());
  EXPECT_EQ(*HostAddress(8 * kPage), 41);
  *HostAddress(9 * kPage) = 42;
  EXPECT_EQ(file.data()[2 * kPage], 42);
  EXPECT_FALSE(IsReadable(7 * kPage));
  EXPECT_FALSE(IsReadable(10 * kPage));

  ASSERT_TRUE(mapper->Unmap({ByteOffset(8 * kPage), ByteSize(2 * kPage)}).ok());
  EXPECT_FALSE(IsReadable(8 * kPage));
}

TEST_F(KvmMemoryMapperTest, RefusesPiecesBeyondTheFile) {
  const auto mapper = *NewMemoryMapper(vm_, kRegion);
  const UniqueFd odd = NewFile(kPage + 1);
  const auto map = [&mapper](int fd, uint64_t offset, uint64_t size) {
    return mapper->Map({.fd = fd, .fd_offset = ByteOffset(offset), .size = ByteSize(size)});
  };
  const absl::Status status = map(file_.get(), kPage, 4 * kPage);
  EXPECT_EQ(GetErrno(status), EINVAL);
  EXPECT_THAT(std::string(status.message()), HasSubstr("beyond its file, of 16 KiB"));
  EXPECT_EQ(GetErrno(map(odd.get(), 2 * kPage, kPage)), EINVAL);
  EXPECT_FALSE(IsReadable(0));
  EXPECT_TRUE(map(odd.get(), 0, 2 * kPage).ok()) << "the rest of the last page is there";
}

TEST_F(KvmMemoryMapperTest, RefusesBadDescriptors) {
  const auto mapper = *NewMemoryMapper(vm_, kRegion);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const UniqueFd in(pipe_ends[0]);
  const UniqueFd out(pipe_ends[1]);
  EXPECT_EQ(GetErrno(mapper->Map({.fd = in.get(), .size = ByteSize(kPage)})), EACCES);
  EXPECT_EQ(GetErrno(mapper->Map({.fd = 1 << 20, .size = ByteSize(kPage)})), EBADF);

  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  const UniqueFd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(GetErrno(mapper->Map({.fd = read_only.get(), .size = ByteSize(kPage)})), EACCES);
  EXPECT_TRUE(
      mapper
          ->Map({.fd = read_only.get(), .size = ByteSize(kPage), .access = MemoryAccess::kReadOnly})
          .ok());
}

TEST_F(KvmMemoryMapperTest, LimitsItsPieces) {
  const auto mapper = *NewMemoryMapper(vm_, kRegion, {.max_pieces = 1});
  ASSERT_TRUE(mapper->Map({.fd = file_.get(), .size = ByteSize(kPage)}).ok());
  EXPECT_EQ(GetErrno(mapper->Map(
                {.fd = file_.get(), .offset = ByteOffset(kPage), .size = ByteSize(kPage)})),
            ENOSPC);
}

TEST_F(KvmMemoryMapperTest, RefusesBadRegions) {
  EXPECT_EQ(GetErrno(NewMemoryMapper(vm_, {GuestAddress(0), ByteSize(0)}).status()), EINVAL);
  EXPECT_EQ(GetErrno(NewMemoryMapper(vm_, {GuestAddress(5), ByteSize(kPage)}).status()), EINVAL);
  const auto mapper = *NewMemoryMapper(vm_, kRegion);
  EXPECT_EQ(GetErrno(NewMemoryMapper(vm_, kRegion).status()), EEXIST);
}

}  // namespace
}  // namespace gmem::kvm
