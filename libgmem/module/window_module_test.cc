// SPDX-License-Identifier: MIT OR Apache-2.0
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

// Not a multiple of 2 MiB, so that the window must preserve the remainder.
constexpr GuestAddress kBase(0x40005000);
constexpr uint64_t kNrPages = 16;

class WindowTest : public ModuleTest, public testing::WithParamInterface<WindowKind> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    if (GetParam() == WindowKind::kLive && !HasLiveWindows()) GTEST_SKIP() << kNoLiveWindows;
  }
  static bool IsLive() { return GetParam() == WindowKind::kLive; }

  // A VM with windows of the kind of the test.
  Vm NewWindowVm() const { return NewVm({.windows = GetParam()}); }
  static GuestRange Pages(uint64_t first, uint64_t count) {
    return {kBase + first * kPage, count * kPage};
  }
  static absl::StatusOr<Window> NewWindow(const Vm& vm) {
    return Window::Create(vm, Pages(0, kNrPages));
  }
  static uint8_t* At(const Window& window, uint64_t page) {
    return window.HostMemory(Pages(page, 1)).data();
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, WindowTest, testing::ValuesIn(kWindowKinds), WindowKindName);

TEST_P(WindowTest, Addresses) {
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(vm.Windows(), GetParam());
  EXPECT_EQ(window->kind(), GetParam());
  EXPECT_EQ(window->range(), Pages(0, kNrPages));
  EXPECT_EQ(window->size(), (kNrPages * kPage).value());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(window->data()) % MiB(2).value(),
            kBase.value() % MiB(2).value());
  EXPECT_EQ(At(*window, 3), window->data() + 3 * kPage.value());
  EXPECT_TRUE(window->HostMemory(Pages(0, kNrPages + 1)).empty());
  EXPECT_EQ(window->ToGuest(window->data()), kBase);
  EXPECT_EQ(window->ToGuest(window->data() + window->size() - 1),
            kBase + ByteSize(window->size() - 1));
  EXPECT_EQ(window->ToGuest(window->data() + window->size()), std::nullopt);
  EXPECT_EQ(window->ToGuest(&vm), std::nullopt);
}

TEST_P(WindowTest, ShowsWhatIsBoundAtTheStart) {
  const GuestMemory memory = NewMemory(4 * kPage);
  const Vm vm = NewWindowVm();
  ASSERT_THAT(vm.Map(memory, {.guest_address = kBase + 2 * kPage, .size = 4 * kPage}), IsOk());
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(Peek(At(*window, 1)), std::nullopt);
  EXPECT_EQ(Peek(At(*window, 2)), 0);
  EXPECT_EQ(Peek(At(*window, 5)), 0);
  EXPECT_EQ(Peek(At(*window, 6)), std::nullopt);
  EXPECT_EQ(*memory.Query(), (PageCounts{.absent = 2, .lent = 2}));
}

TEST_P(WindowTest, FollowsItsOwnChanges) {
  const GuestMemory memory = NewMemory(8 * kPage);
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  const MapOptions four = {.guest_address = kBase, .size = 4 * kPage};
  const MapOptions read_only = {.guest_address = kBase + 4 * kPage,
                                .offset = ByteOffset(0x4000),
                                .size = 2 * kPage,
                                .mode = MapMode::kShare,
                                .write = false};
  ASSERT_THAT(window->Map(memory, four), IsOk());
  ASSERT_THAT(window->Map(memory, read_only), IsOk());
  EXPECT_THAT(window->Map(memory, four), FailsWith(EEXIST, "overlaps"));
  EXPECT_TRUE(Poke(At(*window, 0), 1));
  EXPECT_TRUE(Poke(At(*window, 3), 3));
  EXPECT_EQ(Peek(At(*window, 4)), 0);
  EXPECT_FALSE(Poke(At(*window, 5), 1));
  EXPECT_EQ(Peek(At(*window, 6)), std::nullopt);

  EXPECT_EQ(*window->Unmap(Pages(1, 2)), 2U);
  EXPECT_EQ(Peek(At(*window, 0)), 1);
  EXPECT_FALSE(Poke(At(*window, 1), 1));
  EXPECT_EQ(vm.Faults()->faults.back().reason, FaultReason::kUnbound);
  EXPECT_EQ(vm.Faults()->faults.back().page, kBase + kPage);
  EXPECT_EQ(Peek(At(*window, 3)), 3);

  EXPECT_THAT(window->UnmapExact(memory, four), FailsWith(ENOENT, "no single binding"));
  EXPECT_EQ(Peek(At(*window, 3)), 3);
  EXPECT_THAT(window->UnmapExact(memory, read_only), IsOk());
  EXPECT_EQ(Peek(At(*window, 4)), std::nullopt);
  // Across bindings and holes.
  EXPECT_EQ(*window->Unmap(Pages(0, kNrPages)), 2U);
  EXPECT_EQ(Peek(At(*window, 3)), std::nullopt);
  EXPECT_EQ(*window->Unmap(Pages(0, kNrPages)), 0U);
  EXPECT_EQ(vm.Query()->size(), 0U);
}

TEST_P(WindowTest, ShowsTheBindingAgainIfUnmapFails) {
  const GuestMemory memory = NewMemory(4 * kPage);
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  ASSERT_THAT(window->Map(memory, {.guest_address = kBase, .size = 4 * kPage}), IsOk());
  EXPECT_TRUE(Poke(At(*window, 2), 2));
  EXPECT_THAT(window->UnmapExact(memory, {.guest_address = kBase + kPage, .size = 3 * kPage}),
              FailsWith(ENOENT, "no single binding"));
  EXPECT_THAT(window->Unmap({kBase + ByteSize(1), kPage}), FailsWith(EINVAL, "guest_addr"));
  EXPECT_THAT(window->Unmap({kBase, ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(window->Unmap(Pages(8, 16)), FailsWith(EINVAL, "doesn't lie in the window"));
  EXPECT_EQ(Peek(At(*window, 2)), 2);
  EXPECT_TRUE(Poke(At(*window, 1), 1));
}

TEST_P(WindowTest, RefreshAcrossBindingsHolesAndPermissions) {
  const GuestMemory memory = NewMemory(kNrPages * kPage);
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  const auto map = [&](uint64_t first, uint64_t count, bool write) {
    const GuestRange range = Pages(first, count);
    return vm.Map(memory, {.guest_address = range.start,
                           .offset = ByteOffset((first * kPage).value()),
                           .size = range.size,
                           .mode = MapMode::kShare,
                           .write = write});
  };
  ASSERT_THAT(map(0, 2, true), IsOk());
  ASSERT_THAT(map(2, 2, false), IsOk());
  ASSERT_THAT(map(6, 10, true), IsOk());
  ASSERT_THAT(window->Refresh(), IsOk());
  EXPECT_TRUE(Poke(At(*window, 1), 1));
  EXPECT_EQ(Peek(At(*window, 2)), 0);
  EXPECT_FALSE(Poke(At(*window, 2), 1));
  EXPECT_EQ(Peek(At(*window, 4)), std::nullopt);
  EXPECT_TRUE(Poke(At(*window, 15), 1));
  // Only a part of a binding.
  ASSERT_THAT(window->Refresh(Pages(8, 2)), IsOk());
  EXPECT_TRUE(Poke(At(*window, 8), 1));
  EXPECT_TRUE(Poke(At(*window, 10), 1));
}

TEST_P(WindowTest, RefreshThatFailsLeavesWhatIsThere) {
  if (IsLive()) GTEST_SKIP() << "a live window needs no Refresh()";
  const GuestMemory memory = NewMemory(4 * kPage);
  const Vm vm = NewWindowVm();
  ASSERT_THAT(vm.Map(memory, {.guest_address = kBase, .size = 4 * kPage}), IsOk());
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  EXPECT_TRUE(Poke(At(*window, 3), 3));
  ASSERT_THAT(vm.Unmap(Pages(1, 1)), IsOk());

  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old), 0);
  const rlimit nothing = {.rlim_cur = 0, .rlim_max = old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &nothing), 0);
  const absl::Status status = window->Refresh();
  ASSERT_EQ(setrlimit(RLIMIT_AS, &old), 0);
  EXPECT_THAT(status, FailsWith(ENOMEM, "can't map a window"));

  EXPECT_EQ(Peek(At(*window, 3)), 3);
  EXPECT_EQ(Peek(At(*window, 1)), std::nullopt);
  EXPECT_THAT(window->Refresh(), IsOk());
  EXPECT_EQ(Peek(At(*window, 3)), 3);
}

// Each thread changes pages of its own, through the window; one more thread refreshes the whole
// window. At each moment, the window shows a thread what that thread has bound.
TEST_P(WindowTest, ManyThreads) {
  constexpr uint64_t kNrThreads = 3;
  constexpr uint64_t kEach = 5;
  const GuestMemory memory = NewMemory(kNrPages * kPage);
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());

  std::atomic<uint64_t> running = kNrThreads;
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < kNrThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 200; ++i) {
        const uint64_t first = thread * kEach + i % kEach;
        const GuestRange range = Pages(first, kEach - i % kEach);
        ASSERT_THAT(window->Map(memory, {.guest_address = range.start,
                                         .offset = ByteOffset((first * kPage).value()),
                                         .size = range.size}),
                    IsOk());
        *static_cast<volatile uint8_t*>(At(*window, first)) = 1;
        ASSERT_THAT(window->Unmap(range), IsOk());
      }
      --running;
    });
  }
  while (running > 0) EXPECT_THAT(window->Refresh(), IsOk());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(vm.Query()->size(), 0U);
}

// The threads bypass the window, as another process would.
TEST_P(WindowTest, ManyThreadsOfOthers) {
  constexpr uint64_t kNrThreads = 3;
  constexpr uint64_t kEach = 5;
  static_assert(kNrThreads * kEach <= kNrPages);
  const GuestMemory memory = NewMemory(kNrPages * kPage);
  const Vm vm = NewWindowVm();
  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());

  std::atomic<uint64_t> running = kNrThreads;
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < kNrThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 200; ++i) {
        const uint64_t first = thread * kEach + i % kEach;
        const GuestRange range = Pages(first, kEach - i % kEach);
        EXPECT_THAT(vm.Map(memory, {.guest_address = range.start,
                                    .offset = ByteOffset((first * kPage).value()),
                                    .size = range.size}),
                    IsOk());
        EXPECT_THAT(window->Refresh(range), IsOk());
        // Another thread's Refresh() may have shown an older state.
        vm.Populate(range).IgnoreError();
        if (i == 199) break;
        EXPECT_THAT(vm.Unmap(range), IsOk());
        EXPECT_THAT(window->Refresh(range), IsOk());
      }
      --running;
    });
  }
  while (running > 0) EXPECT_THAT(window->Refresh(), IsOk());
  for (std::thread& thread : threads) thread.join();

  ASSERT_THAT(window->Refresh(), IsOk());
  for (uint64_t page = 0; page < kNrPages; ++page) {
    const auto bound = vm.Query(Pages(page, 1));
    ASSERT_THAT(bound, IsOk());
    EXPECT_EQ(Poke(At(*window, page), 1), !bound->empty()) << page;
  }
  EXPECT_EQ(vm.Query()->size(), kNrThreads);
}

TEST_P(WindowTest, ReadOnly) {
  const GuestMemory memory = NewMemory(kPage);
  const Vm vm = NewWindowVm();
  ASSERT_THAT(vm.Map(memory, {.guest_address = kBase, .size = kPage}), IsOk());
  auto window = Window::Create(vm, Pages(0, 4), {.access = MemoryAccess::kReadOnly});
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(Peek(window->data()), 0);
  EXPECT_FALSE(Poke(window->data(), 1));
}

TEST_P(WindowTest, OutlivesItsVmObjectAndMoves) {
  const GuestMemory memory = NewMemory(kPage);
  std::optional<Vm> vm = NewWindowVm();
  ASSERT_THAT(vm->Map(memory, {.guest_address = kBase, .size = kPage}), IsOk());
  auto first = NewWindow(*vm);
  ASSERT_THAT(first, IsOk());
  vm.reset();
  uint8_t* const address = first->data();
  const Window window = *std::move(first);
  EXPECT_EQ(window.data(), address);
  EXPECT_TRUE(Poke(window.data(), 1));
  EXPECT_EQ(window.vm().Query()->size(), 1U);
}

TEST_P(WindowTest, HugePages) {
  const GuestMemory memory = NewMemory(MiB(4), /*huge_pages=*/true);
  const Vm vm = NewWindowVm();
  if (IsLive() && !device().Info()->has_live_huge_pages) {
    EXPECT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0x40000000), .size = MiB(4)}),
                FailsWith(EOPNOTSUPP, "create the VM with VmOptions::huge_pages"));
    EXPECT_EQ(NewVm({.huge_pages = true}).Windows(), WindowKind::kPaged);
    return;
  }
  ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0x40000000), .size = MiB(4)}), IsOk());
  auto window = Window::Create(vm, {GuestAddress(0x40000000), MiB(4)});
  ASSERT_THAT(window, IsOk());
  EXPECT_TRUE(Poke(window->data(), 1));
  EXPECT_EQ(memory.Query()->lent, 512U);
  // A part of a huge page can't be unbound. The window shows it again.
  EXPECT_THAT(window->Unmap({GuestAddress(0x40000000), kPage}),
              FailsWith(EINVAL, "ends inside a huge page"));
  EXPECT_EQ(Peek(window->data()), 1);
  EXPECT_TRUE(Poke(window->data(), 2));
}

TEST_P(WindowTest, Errors) {
  const Vm vm = NewWindowVm();
  EXPECT_THAT(Window::Create(vm, {kBase, ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(Window::Create(vm, {GuestAddress(1), kPage}), FailsWith(EINVAL, "guest_addr 0x1"));
  EXPECT_THAT(Window::Create(vm, {GuestAddress(uint64_t{1} << 52), kPage}),
              FailsWith(EINVAL, "52-bit guest address space"));
  EXPECT_THAT(
      Window::Create(vm, {GuestAddress(std::numeric_limits<uint64_t>::max() - 0xfff), 2 * kPage}),
      FailsWith(EOVERFLOW, "doesn't fit 64 bits"));
  EXPECT_THAT(
      Window::Create(vm, {GuestAddress(std::numeric_limits<uint64_t>::max() - 0xfff), kPage}),
      FailsWith(EOVERFLOW, "ends beyond 2^64"));
  EXPECT_THAT(Window::Create(vm, {GuestAddress(0), ByteSize(uint64_t{1} << 50)}),
              FailsWith(ENOMEM, "1048576 GiB"));
  EXPECT_THAT(Window::Create(NewVm({.provider = "mock"}), Pages(0, 1)),
              FailsWith(ENODEV, "no windows"));

  auto window = NewWindow(vm);
  ASSERT_THAT(window, IsOk());
  EXPECT_THAT(window->Refresh(Pages(8, 16)), FailsWith(EINVAL, "doesn't lie in the window"));
}

}  // namespace
}  // namespace gmem
