// SPDX-License-Identifier: MIT OR Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kBase(0x40000000);

class VmTest : public ModuleTest {
 protected:
  static GuestRange Pages(uint64_t first, uint64_t count) {
    return {kBase + first * kPage, count * kPage};
  }
  // Binds @count pages of @memory, from page @first on, to the same pages of the guest range.
  static absl::Status MapPages(const Vm& vm, const GuestMemory& memory, uint64_t first,
                               uint64_t count, MapMode mode = MapMode::kLend) {
    const GuestRange range = Pages(first, count);
    return vm.Map(memory, {.guest_address = range.start,
                           .offset = ByteOffset((first * kPage).value()),
                           .size = range.size,
                           .mode = mode});
  }
};

TEST_F(VmTest, MapAndQuery) {
  const GuestMemory memory = NewMemory(16 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 4), IsOk());
  ASSERT_THAT(vm.Map(memory, {.guest_address = kBase + 8 * kPage,
                              .offset = ByteOffset((4 * kPage).value()),
                              .size = 2 * kPage,
                              .mode = MapMode::kShare,
                              .write = false}),
              IsOk());
  const auto bindings = vm.Query();
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 2U);
  const Binding& lent = (*bindings)[0];
  EXPECT_EQ(lent.range, Pages(0, 4));
  EXPECT_EQ(lent.offset, ByteOffset(0));
  EXPECT_EQ(lent.mode, MapMode::kLend);
  EXPECT_EQ(lent.memory_id, memory.id());
  EXPECT_TRUE(lent.read && lent.write && lent.execute);
  const Binding& shared = (*bindings)[1];
  EXPECT_EQ(shared.range, Pages(8, 2));
  EXPECT_EQ(shared.offset, ByteOffset(0x4000));
  EXPECT_EQ(shared.mode, MapMode::kShare);
  EXPECT_TRUE(shared.read && !shared.write && shared.execute);

  EXPECT_EQ(vm.Query(Pages(4, 4))->size(), 0U);
  EXPECT_EQ(vm.Query(Pages(3, 5))->size(), 1U);
}

TEST_F(VmTest, DefaultModeIsLend) {
  const GuestMemory memory = NewMemory(kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 1, MapMode::kDefault), IsOk());
  EXPECT_EQ((*vm.Query())[0].mode, MapMode::kLend);
}

TEST_F(VmTest, QueryOfManyBindings) {
  const GuestMemory memory = NewMemory(200 * kPage);
  const Vm vm = NewVm();
  for (uint64_t page = 0; page < 200; page += 2) ASSERT_THAT(MapPages(vm, memory, page, 1), IsOk());
  const auto bindings = vm.Query();
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 100U);
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ((*bindings)[i].range, Pages(2 * i, 1));

  int visited = 0;
  ASSERT_THAT(vm.ForEachBinding(Pages(0, 200), [&](const Binding&) { return ++visited < 40; }),
              IsOk());
  EXPECT_EQ(visited, 40);
}

TEST_F(VmTest, MapErrorsNameTheValue) {
  const GuestMemory small = NewMemory(4 * kPage);
  const GuestMemory huge = NewMemory(MiB(4), /*huge_pages=*/true);
  const Vm vm = NewVm({.provider = "window", .guest_address_bits = 40});
  EXPECT_THAT(vm.Map(huge, {.guest_address = GuestAddress(0x40001000), .size = MiB(2)}),
              FailsWith(EINVAL,
                        "guest_addr 0x40001000 is not a multiple of the 2 MiB page size of this "
                        "guestmem"));
  EXPECT_THAT(
      vm.Map(small, {.offset = ByteOffset(1), .size = kPage}),
      FailsWith(EINVAL, "offset 0x1 is not a multiple of the 4 KiB page size of this guestmem"));
  EXPECT_THAT(vm.Map(small, {}), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(vm.Map(small, {.size = ByteSize(5)}), FailsWith(EINVAL, "size 0x5"));
  EXPECT_THAT(vm.Map(small, {.size = 5 * kPage}),
              FailsWith(EINVAL, "offset 0x0 + size 0x5000 is beyond the 16 KiB of this guestmem"));
  EXPECT_THAT(vm.Map(small, {.guest_address = GuestAddress(uint64_t{1} << 40), .size = kPage}),
              FailsWith(EINVAL, "beyond the 40-bit guest address space of this VM"));
  EXPECT_THAT(
      vm.Map(small, {.guest_address = GuestAddress(std::numeric_limits<uint64_t>::max() - 0xfff),
                     .size = 2 * kPage}),
      FailsWith(EOVERFLOW, "doesn't fit 64 bits"));
  EXPECT_THAT(vm.Map(small, {.size = kPage, .read = false, .write = false, .execute = false}),
              FailsWith(EINVAL, "set at least one of read, write and execute"));
  EXPECT_THAT(vm.Map(small, {.size = kPage, .execute = false}),
              FailsWith(EOPNOTSUPP, "can't enforce access rw"));
  EXPECT_THAT(vm.Query()->empty(), true);
}

TEST_F(VmTest, MapErrorsOfDescriptors) {
  const Vm vm = NewVm();
  EXPECT_THAT(vm.Map(-1, {.size = kPage}), FailsWith(EBADF, "descriptor -1"));
  const UniqueFd memfd(memfd_create("no guestmem", MFD_CLOEXEC));
  EXPECT_THAT(vm.Map(memfd.get(), {.size = kPage}), FailsWith(EINVAL, "is not a guestmem"));

  const GuestMemory memory = NewMemory(kPage);
  auto read_only = memory.Reopen(MemoryAccess::kReadOnly);
  ASSERT_THAT(read_only, IsOk());
  EXPECT_THAT(vm.Map(read_only->get(), {.size = kPage}), FailsWith(EACCES, "share without write"));
  EXPECT_THAT(vm.Map(read_only->get(), {.size = kPage, .write = false}),
              FailsWith(EACCES, "share without write"));
  EXPECT_THAT(
      vm.Map(read_only->get(), {.size = kPage, .mode = MapMode::kShare, .write = false}), IsOk());
}

TEST_F(VmTest, MapErrorsOfOverlap) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 4), IsOk());
  EXPECT_THAT(MapPages(vm, memory, 3, 2),
              FailsWith(EEXIST, "it overlaps the binding 0x40000000..0x40003fff"));
  EXPECT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0), .size = kPage}),
              FailsWith(EEXIST, "lent memory can be bound only once"));
}

TEST_F(VmTest, UnmapTrimsAndSplits) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 8), IsOk());
  const auto pages = vm.Unmap(Pages(2, 2));
  ASSERT_THAT(pages, IsOk());
  EXPECT_EQ(*pages, 2U);
  const auto bindings = vm.Query();
  ASSERT_EQ(bindings->size(), 2U);
  EXPECT_EQ((*bindings)[0].range, Pages(0, 2));
  EXPECT_EQ((*bindings)[1].range, Pages(4, 4));
  EXPECT_EQ((*bindings)[1].offset, ByteOffset(0x4000));
  EXPECT_EQ(*vm.Unmap(Pages(0, 100)), 6U);
  EXPECT_EQ(*vm.Unmap(Pages(0, 100)), 0U);
}

TEST_F(VmTest, UnmapErrors) {
  const GuestMemory huge = NewMemory(MiB(4), /*huge_pages=*/true);
  const Vm vm = NewVm({.huge_pages = true});
  ASSERT_THAT(vm.Map(huge, {.guest_address = kBase, .size = MiB(4)}), IsOk());
  EXPECT_THAT(vm.Unmap(Pages(0, 1)), FailsWith(EINVAL, "inside a huge page of a binding"));
  EXPECT_THAT(vm.Unmap({GuestAddress(12), kPage}),
              FailsWith(EINVAL, "guest_addr 0xc is not a multiple of the 4 KiB page size"));
  EXPECT_THAT(vm.Unmap({GuestAddress(uint64_t{1} << 52), kPage}),
              FailsWith(EINVAL, "52-bit guest address space"));
  EXPECT_THAT(vm.Query({GuestAddress(0), ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
  EXPECT_EQ(vm.Query()->size(), 1U);
}

TEST_F(VmTest, UnmapExact) {
  const GuestMemory memory = NewMemory(4 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 4), IsOk());
  MapOptions options = {.guest_address = kBase, .size = 2 * kPage, .mode = MapMode::kShare};
  EXPECT_THAT(vm.UnmapExact(memory, options), FailsWith(ENOENT, "no single binding"));
  options.mode = MapMode::kLend;
  EXPECT_THAT(vm.UnmapExact(memory, options), IsOk());
  EXPECT_EQ((*vm.Query())[0].range, Pages(2, 2));
  options.size = ByteSize(1);
  EXPECT_THAT(vm.UnmapExact(memory, options), FailsWith(EINVAL, "size 0x1"));
}

TEST_F(VmTest, PopulateAndReclaim) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 4), IsOk());
  uint64_t pages = 0;
  ASSERT_THAT(vm.Populate(Pages(0, 3), &pages), IsOk());
  EXPECT_EQ(pages, 3U);
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 5, .lent = 3}));
  ASSERT_THAT(vm.Reclaim(Pages(1, 3), &pages), IsOk());
  EXPECT_EQ(pages, 2U);
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 5, .host = 2, .lent = 1}));

  EXPECT_THAT(vm.Populate(Pages(0, 8), &pages), FailsWith(ENOENT, "a part of it is unbound"));
  EXPECT_EQ(pages, 0U);
  ASSERT_THAT(vm.SetPolicy(ReclaimPolicy::kDeny), IsOk());
  EXPECT_THAT(vm.Reclaim(Pages(0, 1)), FailsWith(EACCES, "kDeny"));
  EXPECT_THAT(vm.SetPolicy(static_cast<ReclaimPolicy>(7)), FailsWith(EINVAL, "policy 7"));
}

TEST_F(VmTest, ChangeInPlace) {
  const GuestMemory memory = NewMemory(8 * kPage);
  auto host = memory.Map();
  ASSERT_THAT(host, IsOk());
  const Vm vm = NewVm({.policy = ReclaimPolicy::kDeny});
  ASSERT_THAT(MapPages(vm, memory, 0, 8), IsOk());
  ASSERT_TRUE(Poke(host->data() + kPage.value(), 7));
  ASSERT_THAT(vm.Populate(Pages(0, 8)), IsOk());
  EXPECT_EQ(Peek(host->data() + kPage.value()), std::nullopt);
  ASSERT_THAT(vm.Change(Pages(1, 2), {.mode = MapMode::kShare}), IsOk());
  EXPECT_EQ(*memory.Query(), (PageCounts{.lent = 6, .shared = 2}));
  EXPECT_EQ(Peek(host->data() + kPage.value()), 7);
  const auto bindings = vm.Query();
  ASSERT_EQ(bindings->size(), 3U);
  EXPECT_EQ((*bindings)[1].range, Pages(1, 2));
  EXPECT_EQ((*bindings)[1].mode, MapMode::kShare);
  EXPECT_TRUE((*bindings)[1].write);
  ASSERT_THAT(vm.Change(Pages(1, 2), {.mode = MapMode::kLend}), IsOk());
  EXPECT_EQ(*memory.Query(), (PageCounts{.lent = 8}));
  EXPECT_EQ(vm.Query()->size(), 1U);
  ASSERT_THAT(vm.Change(Pages(0, 8), {.access = GuestAccess{.write = false}}), IsOk());
  EXPECT_FALSE((*vm.Query())[0].write);

  EXPECT_THAT(vm.Change(Pages(0, 9), {.mode = MapMode::kShare}),
              FailsWith(ENOENT, "a part of it is unbound"));
  EXPECT_THAT(vm.Change(Pages(0, 8), {.access = GuestAccess{.execute = false}}),
              FailsWith(EOPNOTSUPP, "can't enforce"));
  EXPECT_EQ(vm.Query()->size(), 1U);
}

TEST_F(VmTest, ChangeErrors) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm(), other = NewVm();
  ASSERT_THAT(MapPages(vm, memory, 0, 8, MapMode::kShare), IsOk());
  ASSERT_THAT(MapPages(other, memory, 7, 1, MapMode::kShare), IsOk());
  EXPECT_THAT(vm.Change(Pages(0, 8), {.mode = MapMode::kLend}),
              FailsWith(EEXIST, "another binding has a page of it"));
  EXPECT_THAT(vm.Change(Pages(0, 7), {.mode = MapMode::kLend}), IsOk());
  auto read_only = memory.Reopen(MemoryAccess::kReadOnly);
  ASSERT_THAT(read_only, IsOk());
  ASSERT_THAT(other.Map(read_only->get(), {.offset = ByteOffset((7 * kPage).value()),
                                           .size = kPage,
                                           .mode = MapMode::kShare,
                                           .write = false}),
              IsOk());
  EXPECT_THAT(other.Change({GuestAddress(0), kPage}, {.access = GuestAccess{}}),
              FailsWith(EACCES, "isn't open for writing"));
}

TEST_F(VmTest, PolicyOfABinding) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm();
  ASSERT_THAT(
      vm.Map(memory, {.guest_address = kBase, .size = kPage, .policy = ReclaimPolicy::kDeny}),
      IsOk());
  ASSERT_THAT(MapPages(vm, memory, 1, 1), IsOk());
  ASSERT_THAT(vm.Populate(Pages(0, 2)), IsOk());
  EXPECT_THAT(vm.Reclaim(Pages(0, 2)), FailsWith(EACCES, "kDeny"));
  EXPECT_THAT(vm.Reclaim(Pages(1, 1)), IsOk());
  const auto bindings = vm.Query();
  EXPECT_EQ((*bindings)[0].policy, ReclaimPolicy::kDeny);
  EXPECT_EQ((*bindings)[1].policy, std::nullopt);
}

TEST_F(VmTest, JoinLeavesOneBinding) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewVm();
  for (const uint64_t page : {3, 0, 7, 1, 2, 5, 6, 4}) {
    ASSERT_THAT(vm.Map(memory, {.guest_address = Pages(page, 1).start,
                                .offset = ByteOffset((page * kPage).value()),
                                .size = kPage,
                                .join = true}),
                IsOk());
  }
  const auto bindings = vm.Query();
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 1U);
  EXPECT_EQ((*bindings)[0].range, Pages(0, 8));
}

TEST_F(VmTest, ScrubZeroes) {
  const GuestMemory memory = NewMemory(kPage);
  auto host = memory.Map();
  ASSERT_THAT(host, IsOk());
  ASSERT_TRUE(Poke(host->data(), 7));
  const Vm vm = NewVm({.policy = ReclaimPolicy::kScrub});
  ASSERT_THAT(MapPages(vm, memory, 0, 1), IsOk());
  ASSERT_THAT(vm.Populate(Pages(0, 1)), IsOk());
  EXPECT_EQ(Peek(host->data()), 0);
}

TEST_F(VmTest, AdoptAndDuplicate) {
  const GuestMemory memory = NewMemory(kPage);
  Vm vm = NewVm();
  auto second = vm.Duplicate();
  ASSERT_THAT(second, IsOk());
  ASSERT_THAT(MapPages(*second, memory, 0, 1), IsOk());
  auto fd = UniqueFd::Duplicate(vm.fd());
  ASSERT_THAT(fd, IsOk());
  auto third = Vm::Adopt(*std::move(fd));
  ASSERT_THAT(third, IsOk());
  EXPECT_EQ(third->Query()->size(), 1U);
}

TEST_F(VmTest, IdIsTheMonitors) {
  const Vm vm = NewVm();
  const auto id = vm.Id();
  ASSERT_THAT(id, IsOk());
  EXPECT_EQ(*vm.Duplicate()->Id(), *id);
  EXPECT_NE(*NewVm().Id(), *id);
}

TEST_F(VmTest, Release) {
  Vm vm = NewVm();
  const int raw = vm.fd();
  UniqueFd fd = std::move(vm).Release();
  EXPECT_EQ(fd.get(), raw);
  EXPECT_THAT(Vm::Adopt(std::move(fd)), IsOk());
}

TEST_F(VmTest, ProviderThatRefusesToGiveBack) {
  const GuestMemory memory = NewMemory(4 * kPage);
  const Vm vm = NewVm({.provider = "mock"});
  ASSERT_THAT(MapPages(vm, memory, 0, 4), IsOk());
  for (uint64_t page = 0; page < 4; ++page) {
    ASSERT_EQ(MockWrite(vm, kBase + page * kPage, 1), 0);
  }
  MockFailReclaims(vm, 1);
  EXPECT_THAT(vm.Unmap(Pages(0, 4)), FailsWith(EIO, "nothing was unmapped"));
  EXPECT_EQ((*vm.Query())[0].range, Pages(0, 4));
  MockFailReclaims(vm, 1);
  EXPECT_THAT(vm.Reclaim(Pages(0, 4)), FailsWith(EIO, "pages came back before"));
  EXPECT_THAT(vm.Unmap(Pages(0, 4)), IsOk());
}

TEST_F(VmTest, FaultsOfTheGuest) {
  const GuestMemory memory = NewMemory(kPage);
  const Vm vm = NewVm({.provider = "mock"});
  EXPECT_EQ(vm.Faults()->faults.size(), 0U);
  EXPECT_EQ(MockWrite(vm, kBase + kPage, 1), EFAULT);
  EXPECT_EQ(MockWrite(vm, kBase + kPage, 1), EFAULT);
  ASSERT_THAT(vm.Map(memory, {.guest_address = kBase, .size = kPage, .write = false}), IsOk());
  EXPECT_EQ(MockWrite(vm, kBase, 1), EFAULT);

  const auto report = vm.Faults();
  ASSERT_THAT(report, IsOk());
  ASSERT_EQ(report->faults.size(), 2U);
  EXPECT_EQ(report->lost, 0U);
  EXPECT_EQ(report->last_sequence, 3U);
  const Fault& unbound = report->faults[0];
  EXPECT_EQ(unbound.page, kBase + kPage);
  EXPECT_EQ(unbound.reason, FaultReason::kUnbound);
  EXPECT_EQ(unbound.count, 2U);
  EXPECT_EQ(unbound.sequence, 2U);
  EXPECT_EQ(unbound.thread, gettid());
  EXPECT_TRUE(unbound.write && !unbound.read && !unbound.execute);
  EXPECT_EQ(report->faults[1].reason, FaultReason::kPermission);

  EXPECT_EQ(vm.Faults(report->last_sequence)->faults.size(), 0U);
  EXPECT_EQ(vm.Faults(report->last_sequence)->last_sequence, 3U);
}

TEST_F(VmTest, PollTellsOfFaults) {
  const Vm vm = NewVm({.provider = "mock"});
  pollfd poll_fd = {.fd = vm.fd(), .events = POLLPRI, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
  EXPECT_EQ(MockWrite(vm, kBase, 1), EFAULT);
  EXPECT_EQ(poll(&poll_fd, 1, 0), 1);
  EXPECT_EQ(poll_fd.revents, POLLPRI);
  EXPECT_EQ(vm.Faults()->faults.size(), 1U);
  EXPECT_EQ(poll(&poll_fd, 1, 0), 0);
}

TEST_F(VmTest, ManyThreads) {
  const GuestMemory memory = NewMemory(64 * kPage);
  const Vm vm = NewVm();
  std::vector<std::thread> threads;
  for (uint64_t first = 0; first < 64; first += 16) {
    threads.emplace_back([&vm, &memory, first] {
      for (int round = 0; round < 50; ++round) {
        ASSERT_THAT(MapPages(vm, memory, first, 16), IsOk());
        ASSERT_THAT(vm.Populate(Pages(first, 16)), IsOk());
        ASSERT_THAT(vm.Unmap(Pages(first, 16)), IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(vm.Query()->size(), 0U);
}

}  // namespace
}  // namespace gmem
