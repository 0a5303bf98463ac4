// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class GuestMemoryTest : public ModuleTest {};

TEST_F(GuestMemoryTest, KnowsItself) {
  const GuestMemory small = NewMemory(4 * kPage);
  EXPECT_EQ(small.size(), KiB(16));
  EXPECT_EQ(small.page_size(), kPage);
  const GuestMemory huge = NewMemory(MiB(4), /*huge_pages=*/true);
  EXPECT_EQ(huge.size(), MiB(4));
  EXPECT_EQ(huge.page_size(), MiB(2));
  EXPECT_NE(huge.id(), small.id());
}

TEST_F(GuestMemoryTest, Adopt) {
  const GuestMemory memory = NewMemory(MiB(4), /*huge_pages=*/true);
  auto fd = UniqueFd::Duplicate(memory.fd());
  ASSERT_THAT(fd, IsOk());
  auto adopted = GuestMemory::Adopt(*std::move(fd));
  ASSERT_THAT(adopted, IsOk());
  EXPECT_EQ(adopted->id(), memory.id());
  EXPECT_EQ(adopted->size(), memory.size());
  EXPECT_EQ(adopted->page_size(), MiB(2));
}

TEST_F(GuestMemoryTest, PagesAppearAndGo) {
  const GuestMemory memory = NewMemory(4 * kPage);
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 4}));
  ASSERT_THAT(memory.Allocate({ByteOffset(0), 2 * kPage}), IsOk());
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 2, .host = 2}));
  ASSERT_THAT(memory.PunchHole({ByteOffset(4096), kPage}), IsOk());
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 3, .host = 1}));
  EXPECT_EQ(*memory.Query({ByteOffset(4096), kPage}), (PageCounts{.absent = 1}));
}

TEST_F(GuestMemoryTest, Runs) {
  const GuestMemory memory = NewMemory(8 * kPage);
  ASSERT_THAT(memory.Allocate({ByteOffset(4096), 2 * kPage}), IsOk());
  const auto runs = memory.Runs();
  ASSERT_THAT(runs, IsOk());
  ASSERT_EQ(runs->size(), 3U);
  EXPECT_EQ((*runs)[0], (PageRun{.range = {ByteOffset(0), kPage}, .state = PageState::kAbsent}));
  EXPECT_EQ((*runs)[1], (PageRun{.range = {ByteOffset(4096), KiB(8)}, .state = PageState::kHost}));
  EXPECT_EQ((*runs)[2],
            (PageRun{.range = {ByteOffset(3 * 4096), KiB(20)}, .state = PageState::kAbsent}));

  // More runs than one call returns.
  const GuestMemory large = NewMemory(300 * kPage);
  for (uint64_t i = 1; i < 300; i += 2) {
    ASSERT_THAT(large.Allocate({ByteOffset(i * 4096), kPage}), IsOk());
  }
  EXPECT_EQ(large.Runs()->size(), 300U);
  EXPECT_EQ(lseek(large.fd(), 0, SEEK_DATA), 4096);
}

TEST_F(GuestMemoryTest, MappingIsHostAccess) {
  const GuestMemory memory = NewMemory(4 * kPage);
  auto all = memory.Map();
  auto part = memory.Map({ByteOffset(4096), kPage}, MemoryAccess::kReadOnly);
  ASSERT_THAT(all, IsOk());
  ASSERT_THAT(part, IsOk());
  EXPECT_TRUE(Poke(all->data() + 4096, 7));
  EXPECT_EQ(Peek(part->data()), 7);
  EXPECT_FALSE(Poke(part->data(), 8));
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 3, .host = 1}));
}

TEST_F(GuestMemoryTest, RangeErrors) {
  const GuestMemory huge = NewMemory(MiB(4), /*huge_pages=*/true);
  EXPECT_THAT(huge.Allocate({ByteOffset(0x1000), MiB(2)}),
              FailsWith(EINVAL,
                        "offset 0x1000 is not a multiple of the 2 MiB page size of this "
                        "guestmem"));
  EXPECT_THAT(huge.PunchHole({ByteOffset(0), kPage}), FailsWith(EINVAL, "size 0x1000"));
  EXPECT_THAT(huge.Allocate({ByteOffset(0), ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(huge.Allocate({ByteOffset(MiB(2).value()), MiB(4)}),
              FailsWith(EINVAL, "beyond the 4 MiB of this guestmem"));
  EXPECT_THAT(huge.Map({ByteOffset(0), MiB(8)}), FailsWith(EINVAL, "beyond the 4 MiB"));
  EXPECT_THAT(huge.Query({ByteOffset(1), kPage}), FailsWith(EINVAL, "offset 0x1"));

  const ByteOffset last_page(std::numeric_limits<uint64_t>::max() - 0xfff);
  EXPECT_THAT(huge.Allocate({last_page, MiB(2)}), FailsWith(EOVERFLOW, ""));
  EXPECT_THAT(huge.Query({last_page, MiB(2)}), FailsWith(EOVERFLOW, "doesn't fit 64 bits"));
  EXPECT_THAT(huge.Map({last_page, MiB(2)}), FailsWith(EOVERFLOW, "doesn't fit 64 bits"));
}

TEST_F(GuestMemoryTest, ReadOnlyDescriptor) {
  const GuestMemory memory = NewMemory(kPage);
  auto fd = memory.Reopen(MemoryAccess::kReadOnly);
  ASSERT_THAT(fd, IsOk());
  auto reader = GuestMemory::Adopt(*std::move(fd));
  ASSERT_THAT(reader, IsOk());
  EXPECT_THAT(reader->Map(), FailsWith(EACCES, "for writing"));
  EXPECT_THAT(reader->Map(MemoryAccess::kReadOnly), IsOk());
  EXPECT_THAT(reader->Allocate({ByteOffset(0), kPage}), FailsWith(EBADF, "for writing"));
  EXPECT_THAT(memory.Reopen(MemoryAccess::kReadWrite), IsOk());
}

TEST_F(GuestMemoryTest, WriteOnlyDescriptor) {
  const GuestMemory memory = NewMemory(kPage);
  const UniqueFd fd(
      open(absl::StrCat("/proc/self/fd/", memory.fd()).c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(fd);
  EXPECT_THAT(NewVm().Map(fd.get(), {.size = kPage, .write = false}),
              FailsWith(EACCES, "isn't open for reading"));
}

TEST_F(GuestMemoryTest, DuplicateAndRelease) {
  GuestMemory memory = NewMemory(2 * kPage);
  auto other = memory.Duplicate();
  ASSERT_THAT(other, IsOk());
  EXPECT_NE(other->fd(), memory.fd());
  EXPECT_EQ(other->id(), memory.id());
  EXPECT_EQ(other->size(), 2 * kPage);
  EXPECT_EQ(other->page_size(), kPage);
  const int raw = memory.fd();
  const UniqueFd released = std::move(memory).Release();
  EXPECT_EQ(released.get(), raw);
  EXPECT_TRUE(GuestMemory::IsGuestMemory(raw));
}

// The range is larger than one piece of the allocation. The signals come too fast for a whole
// piece.
TEST_F(GuestMemoryTest, AllocateUnderSignals) {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGALRM, &action, nullptr), 0);
  const itimerval often = {.it_interval = {0, 500}, .it_value = {0, 500}};
  const GuestMemory memory = NewMemory(MiB(66));
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  EXPECT_THAT(memory.Allocate({ByteOffset(0), MiB(66)}), IsOk());
  const itimerval never = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &never, nullptr), 0);
  EXPECT_EQ(*memory.Query(), (PageCounts{.host = MiB(66).value() / kPage.value()}));
}

TEST_F(GuestMemoryTest, PunchIsRefusedByPolicy) {
  const GuestMemory memory = NewMemory(kPage);
  const Vm vm = NewVm({.policy = ReclaimPolicy::kDeny});
  ASSERT_THAT(vm.Map(memory, {.size = kPage}), IsOk());
  ASSERT_THAT(vm.Populate({GuestAddress(0), kPage}), IsOk());
  EXPECT_THAT(memory.PunchHole({ByteOffset(0), kPage}), FailsWith(EACCES, "kDeny"));
  EXPECT_EQ(*memory.Query(), (PageCounts{.lent = 1}));
}

}  // namespace
}  // namespace gmem
