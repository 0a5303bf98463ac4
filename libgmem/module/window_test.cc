// SPDX-License-Identifier: MIT OR Apache-2.0
// The steps of a change, without the module.
#include "gmem/window.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/gmem.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "testing/fake_module.h"
#include "testing/matchers.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr ByteSize kPage = KiB(4);
constexpr GuestAddress kBase(0x40005000);
constexpr uint64_t kNrPages = 8;

GuestRange Pages(uint64_t first, uint64_t count) { return {kBase + first * kPage, count * kPage}; }

// Has this process access to the first byte of that page of the window? A system call finds out.
bool CanRead(const Window& window, uint64_t page) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd source(ends[0]), sink(ends[1]);
  return write(sink.get(), window.HostMemory(Pages(page, 1)).data(), 1) == 1;
}

// How many mappings this process has of the files of the double.
int CountMappings() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:gmem") != std::string::npos) ++count;
  }
  return count;
}

class WindowTest : public testing::Test {
 protected:
  WindowTest() : device_(module_.OpenDevice()), memory_(NewMemory()) {}

  GuestMemory NewMemory() const {
    auto memory = device_.CreateGuestMemory(kNrPages * kPage);
    EXPECT_THAT(memory, IsOk());
    return *std::move(memory);
  }
  Window NewWindow(WindowKind kind) const {
    auto vm = device_.CreateVm({.windows = kind});
    EXPECT_THAT(vm, IsOk());
    auto window = Window::Create(*vm, Pages(0, kNrPages));
    EXPECT_THAT(window, IsOk());
    EXPECT_EQ(window->kind(), kind);
    return *std::move(window);
  }
  static MapOptions Piece(uint64_t first, uint64_t count) {
    const GuestRange range = Pages(first, count);
    return {.guest_address = range.start,
            .offset = ByteOffset((first * kPage).value()),
            .size = range.size};
  }

  FakeModule module_;
  Device device_;
  GuestMemory memory_;
};

TEST_F(WindowTest, PagedUnbindsBehindAHole) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 2)), IsOk());
  ASSERT_THAT(window.Map(memory_, Piece(2, 3)), IsOk());

  bool was_called = false;
  const std::function<void()> look = [&] {
    was_called = true;
    EXPECT_TRUE(CanRead(window, 1));
    EXPECT_FALSE(CanRead(window, 2));
    EXPECT_FALSE(CanRead(window, 4));
    EXPECT_TRUE(CanRead(window, 5));
  };
  module_.SetHook(GMEM_VM_UNMAP, look);
  const auto pages = window.Unmap(Pages(2, 3));
  ASSERT_THAT(pages, IsOk());
  EXPECT_EQ(*pages, 3U);
  EXPECT_TRUE(was_called);
  // The VM decides about touches again: here, the double's file.
  EXPECT_TRUE(CanRead(window, 2));

  module_.SetHook(GMEM_VM_UNMAP, nullptr);
  ASSERT_THAT(window.Map(memory_, Piece(2, 3)), IsOk());
  was_called = false;
  module_.SetHook(GMEM_VM_MAP_MEM, look);
  EXPECT_THAT(window.UnmapExact(memory_, Piece(2, 3)), IsOk());
  EXPECT_TRUE(was_called);
  EXPECT_EQ(window.vm().Query(window.range())->size(), 1U);
}

TEST_F(WindowTest, PagedComesBackIfUnbindingFails) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 8)), IsOk());
  window.data()[kPage.value()] = 7;
  module_.FailNext(GMEM_VM_UNMAP, EBUSY);
  EXPECT_THAT(window.Unmap(Pages(0, 8)), FailsWith(EBUSY, "pinned"));
  EXPECT_EQ(window.data()[kPage.value()], 7);
  module_.FailNext(GMEM_VM_MAP_MEM, ENOENT);
  EXPECT_THAT(window.UnmapExact(memory_, Piece(0, 8)), FailsWith(ENOENT, "no single binding"));
  EXPECT_EQ(window.data()[kPage.value()], 7);
  EXPECT_EQ(window.vm().Query(window.range())->size(), 1U);
}

TEST_F(WindowTest, PagedBindsAllOrNothing) {
  const Window window = NewWindow(WindowKind::kPaged);
  for (const int error : {0, ENOMEM}) {
    module_.FailMoves(ENOMEM);
    module_.FailProtections(error);
    const absl::Status status = window.Map(memory_, Piece(0, 8));
    module_.FailMoves(0);
    module_.FailProtections(0);
    EXPECT_THAT(status, FailsWith(ENOMEM, "can't map a window"));
    EXPECT_EQ(window.vm().Query(window.range())->size(), 0U);
  }

  module_.FailNext(GMEM_VM_MAP_MEM, EEXIST);
  EXPECT_THAT(window.Map(memory_, Piece(0, 8)), FailsWith(EEXIST, ""));
  EXPECT_THAT(window.Map(memory_, Piece(0, 8)), IsOk());
}

TEST_F(WindowTest, PagedUnbindsNothingThatItCantHide) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 8)), IsOk());
  module_.FailProtections(ENOMEM);
  const absl::Status status = window.Unmap(Pages(0, 4)).status();
  module_.FailProtections(0);
  EXPECT_THAT(status, FailsWith(ENOMEM, "can't hide 0x40005000..0x40008fff of a window"));
  EXPECT_TRUE(CanRead(window, 0));
  EXPECT_EQ(window.vm().Query(window.range())->size(), 1U);
}

// The process may be at its limit when the range is unbound already.
TEST_F(WindowTest, PagedStaysHiddenIfItCantBeShown) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 8)), IsOk());
  module_.FailMoves(ENOMEM);
  const auto pages = window.Unmap(Pages(0, 4));
  module_.FailNext(GMEM_VM_UNMAP, EIO);
  const auto failed = window.Unmap(Pages(4, 4));
  module_.FailMoves(0);
  EXPECT_THAT(pages, IsOk());
  EXPECT_THAT(failed, FailsWith(EIO, "the window can't show 0x40009000..0x4000cfff: call Refresh"));
  EXPECT_FALSE(CanRead(window, 0));
  EXPECT_FALSE(CanRead(window, 4));
  ASSERT_THAT(window.Refresh(), IsOk());
  EXPECT_TRUE(CanRead(window, 0));
  EXPECT_TRUE(CanRead(window, 4));
}

TEST_F(WindowTest, CountsChanges) {
  const Window window = NewWindow(WindowKind::kPaged);
  const uint64_t before = window.NrChanges();
  EXPECT_FALSE(window.HasChangedSince(before));
  ASSERT_THAT(window.Map(memory_, Piece(0, 1)), IsOk());
  EXPECT_TRUE(window.HasChangedSince(before));
  EXPECT_FALSE(window.HasChangedSince(window.NrChanges()));

  for (const std::function<void()>& change : std::initializer_list<std::function<void()>>{
           [&] { window.Unmap(Pages(0, 1)).IgnoreError(); },
           [&] { window.UnmapExact(memory_, Piece(0, 1)).IgnoreError(); },
           [&] { window.Refresh().IgnoreError(); }}) {
    const uint64_t earlier = window.NrChanges();
    change();
    EXPECT_TRUE(window.HasChangedSince(earlier));
  }
}

// A vCPU that was refused in the middle of a change waits for the end of the change.
TEST_F(WindowTest, WaitsForAChange) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 1)), IsOk());
  const uint64_t before = window.NrChanges();
  std::atomic<bool> is_under_way = false, may_end = false, has_ended = false;
  module_.SetHook(GMEM_VM_UNMAP, [&] {
    is_under_way = true;
    is_under_way.notify_all();
    may_end.wait(false);
    has_ended = true;
  });
  std::thread changer([&] { EXPECT_THAT(window.Unmap(Pages(0, 1)), IsOk()); });
  is_under_way.wait(false);
  // This one is under way, so it isn't over yet.
  EXPECT_EQ(window.NrChanges(), before);
  std::thread vcpu([&] {
    EXPECT_TRUE(window.HasChangedSince(before));
    EXPECT_TRUE(has_ended);
  });
  usleep(10'000);
  may_end = true;
  may_end.notify_all();
  vcpu.join();
  changer.join();
  EXPECT_FALSE(window.HasChangedSince(window.NrChanges()));
}

// A long change keeps only changes of its own range waiting.
TEST_F(WindowTest, ChangesOfOtherRangesDontWait) {
  const Window window = NewWindow(WindowKind::kPaged);
  ASSERT_THAT(window.Map(memory_, Piece(0, 2)), IsOk());
  std::atomic<bool> is_under_way = false, may_end = false;
  module_.SetHook(GMEM_VM_UNMAP, [&] {
    is_under_way = true;
    is_under_way.notify_all();
    may_end.wait(false);
  });
  std::thread slow([&] { EXPECT_THAT(window.Unmap(Pages(0, 2)), IsOk()); });
  is_under_way.wait(false);
  EXPECT_THAT(window.Map(memory_, Piece(2, 2)), IsOk());
  EXPECT_THAT(window.UnmapExact(memory_, Piece(2, 2)), IsOk());
  std::atomic<bool> is_mapped = false;
  std::thread other([&] {
    EXPECT_THAT(window.Map(memory_, Piece(1, 3)), IsOk());
    is_mapped = true;
  });
  usleep(10'000);
  EXPECT_FALSE(is_mapped);
  may_end = true;
  may_end.notify_all();
  slow.join();
  other.join();
  EXPECT_EQ(window.vm().Query(window.range())->size(), 1U);
}

TEST_F(WindowTest, LiveIsOneMapping) {
  const int before = CountMappings();
  const Window window = NewWindow(WindowKind::kLive);
  EXPECT_EQ(CountMappings(), before + 1);
  const uint64_t changes = window.NrChanges();
  ASSERT_THAT(window.Map(memory_, Piece(0, 2)), IsOk());
  ASSERT_THAT(window.Map(memory_, Piece(4, 2)), IsOk());
  module_.SetHook(GMEM_VM_UNMAP, [&] { EXPECT_TRUE(CanRead(window, 4)); });
  EXPECT_EQ(*window.Unmap(Pages(4, 2)), 2U);
  EXPECT_THAT(window.UnmapExact(memory_, Piece(0, 2)), IsOk());
  EXPECT_THAT(window.Refresh(), IsOk());
  EXPECT_EQ(CountMappings(), before + 1);
  EXPECT_FALSE(window.HasChangedSince(changes));
}

TEST_F(WindowTest, StaysInside) {
  for (const WindowKind kind : {WindowKind::kPaged, WindowKind::kLive}) {
    const Window window = NewWindow(kind);
    EXPECT_THAT(window.Map(memory_, Piece(7, 2)), FailsWith(EINVAL, "doesn't lie in the window"));
    EXPECT_THAT(window.Unmap(Pages(7, 2)), FailsWith(EINVAL, "doesn't lie in the window"));
    EXPECT_THAT(window.UnmapExact(memory_, Piece(8, 1)),
                FailsWith(EINVAL, "doesn't lie in the window"));
    EXPECT_THAT(window.Refresh(Pages(0, 9)), FailsWith(EINVAL, "doesn't lie in the window"));
    EXPECT_EQ(window.vm().Query(window.range())->size(), 0U);

    EXPECT_THAT(window.Unmap({kBase, ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
    EXPECT_THAT(window.Unmap({kBase + ByteSize(1), kPage}), FailsWith(EINVAL, "guest_addr"));
    EXPECT_THAT(window.Map(memory_, {.guest_address = kBase, .size = ByteSize(1)}),
                FailsWith(EINVAL, "size 0x1 is not"));
  }
}

}  // namespace
}  // namespace gmem
