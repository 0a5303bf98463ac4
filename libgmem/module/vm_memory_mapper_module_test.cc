// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gmem/guest_memory.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "gmem/vm_memory_mapper.h"
#include "gmem/window.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kBase(0x40000000);
constexpr uint64_t kNrPages = 16;

class VmMemoryMapperTest : public ModuleTest, public testing::WithParamInterface<WindowKind> {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    if (GetParam() == WindowKind::kLive && !HasLiveWindows()) GTEST_SKIP() << kNoLiveWindows;
    // The region has neighbours in the window.
    auto window = Window::Create(NewVm({.windows = GetParam()}), {kBase, 3 * kNrPages * kPage});
    ASSERT_THAT(window, IsOk());
    window_ = *std::move(window);
    auto mapper = NewVmMemoryMapper(&*window_, Region());
    ASSERT_THAT(mapper, IsOk());
    mapper_ = *std::move(mapper);
    memory_ = NewMemory(kNrPages * kPage);
    file_ = UniqueFd(memfd_create("file", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file_.get(), static_cast<off_t>((kNrPages * kPage).value())), 0);
  }
  void TearDown() override {
    mapper_.reset();
    window_.reset();
    memory_.reset();
    ModuleTest::TearDown();
  }

  static GuestRange Region() { return {kBase + kNrPages * kPage, kNrPages * kPage}; }
  static MemoryMapper::Piece Piece(int fd, uint64_t first, uint64_t count,
                                   MemoryAccess access = MemoryAccess::kReadWrite) {
    return {.fd = fd,
            .fd_offset = ByteOffset((first * kPage).value()),
            .offset = ByteOffset((first * kPage).value()),
            .size = count * kPage,
            .access = access};
  }
  uint8_t* At(uint64_t page) const {
    return window_->HostMemory({Region().start + page * kPage, kPage}).data();
  }

  std::optional<Window> window_;
  std::unique_ptr<MemoryMapper> mapper_;
  std::optional<GuestMemory> memory_;
  UniqueFd file_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, VmMemoryMapperTest, testing::ValuesIn(kWindowKinds),
                         WindowKindName);

TEST_P(VmMemoryMapperTest, GuestMemoryIsBoundShared) {
  EXPECT_EQ(mapper_->size(), kNrPages * kPage);
  EXPECT_EQ(mapper_->page_size(), kPage);
  ASSERT_THAT(mapper_->Map(Piece(memory_->fd(), 2, 3)), IsOk());
  const auto bindings = window_->vm().Query();
  ASSERT_EQ(bindings->size(), 1U);
  EXPECT_EQ((*bindings)[0].range, (GuestRange{Region().start + 2 * kPage, 3 * kPage}));
  EXPECT_EQ((*bindings)[0].mode, MapMode::kShare);

  EXPECT_TRUE(Poke(At(2), 7));
  EXPECT_EQ(Peek(memory_->Map()->data() + 2 * kPage.value()), 7);
  EXPECT_EQ(Peek(At(1)), std::nullopt);
  EXPECT_EQ(Peek(At(5)), std::nullopt);

  ASSERT_THAT(mapper_->Unmap(Piece(-1, 2, 3).range()), IsOk());
  EXPECT_EQ(Peek(At(2)), std::nullopt);
  EXPECT_EQ(window_->vm().Faults()->faults.back().reason, FaultReason::kUnbound);
  EXPECT_EQ(window_->vm().Query()->size(), 0U);
}

TEST_P(VmMemoryMapperTest, OtherFilesAreMapped) {
  const uint8_t mark = 9;
  ASSERT_EQ(pwrite(file_.get(), &mark, 1, 8192), 1);
  ASSERT_THAT(mapper_->Map(Piece(file_.get(), 2, 3)), IsOk());
  EXPECT_EQ(Peek(At(2)), mark);
  EXPECT_TRUE(Poke(At(3), 1));
  EXPECT_EQ(Peek(At(5)), std::nullopt);
  ASSERT_THAT(mapper_->Unmap(Piece(-1, 2, 3).range()), IsOk());
  EXPECT_EQ(Peek(At(2)), std::nullopt);
  EXPECT_EQ(window_->vm().Faults()->faults.back().reason, FaultReason::kUnbound);
}

TEST_P(VmMemoryMapperTest, NothingBeyondTheEndOfAFile) {
  const UniqueFd small(memfd_create("small", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(small.get(), 4097), 0);
  EXPECT_THAT(mapper_->Map(Piece(small.get(), 0, 3)), FailsWith(EINVAL, "beyond its file"));
  EXPECT_EQ(Peek(At(0)), std::nullopt);
  EXPECT_THAT(mapper_->Map(Piece(small.get(), 0, 2)), IsOk());
  EXPECT_EQ(Peek(At(1)), 0);
}

TEST_P(VmMemoryMapperTest, ReadOnlyPieces) {
  for (const int fd : {memory_->fd(), file_.get()}) {
    ASSERT_THAT(mapper_->Map(Piece(fd, 0, 1, MemoryAccess::kReadOnly)), IsOk());
    EXPECT_EQ(Peek(At(0)), 0);
    EXPECT_FALSE(Poke(At(0), 1));
    ASSERT_THAT(mapper_->UnmapAll(), IsOk());
  }
}

TEST_P(VmMemoryMapperTest, FailureChangesNothing) {
  // Lent memory can't be shared.
  const Vm other = NewVm();
  ASSERT_THAT(other.Map(*memory_, {.size = kPage}), IsOk());
  EXPECT_THAT(mapper_->Map(Piece(memory_->fd(), 0, 1)), FailsWith(EEXIST, "bound only once"));
  // A directory can't be mapped, nor a file for writing through a read-only descriptor.
  const UniqueFd directory(open("/", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(mapper_->Map(Piece(directory.get(), 0, 1, MemoryAccess::kReadOnly)),
              FailsWith(ENODEV, "can't map 4 KiB"));
  const UniqueFd device(open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(mapper_->Map(Piece(device.get(), 0, 1)), FailsWith(EACCES, "for writing"));
  auto read_only = memory_->Reopen(MemoryAccess::kReadOnly);
  ASSERT_THAT(read_only, IsOk());
  EXPECT_THAT(mapper_->Map(Piece(read_only->get(), 1, 1)), FailsWith(EACCES, "share without write"));

  EXPECT_EQ(Peek(At(0)), std::nullopt);
  EXPECT_EQ(window_->vm().Faults()->faults.back().reason, FaultReason::kUnbound);
  EXPECT_THAT(mapper_->Map(Piece(file_.get(), 0, kNrPages)), IsOk());
}

TEST_P(VmMemoryMapperTest, StaysInItsRegion) {
  EXPECT_THAT(mapper_->Map(Piece(memory_->fd(), kNrPages - 1, 2)),
              FailsWith(EINVAL, "beyond the region of 64 KiB"));
  ASSERT_THAT(mapper_->Map(Piece(memory_->fd(), 0, kNrPages)), IsOk());
  EXPECT_EQ(Peek(At(0) - 1), std::nullopt);
  EXPECT_EQ(Peek(At(kNrPages - 1) + 4096), std::nullopt);
}

TEST_P(VmMemoryMapperTest, UnmapsAtTheEnd) {
  ASSERT_THAT(mapper_->Map(Piece(memory_->fd(), 0, 1)), IsOk());
  ASSERT_THAT(mapper_->Map(Piece(file_.get(), 1, 1)), IsOk());
  mapper_.reset();
  EXPECT_EQ(Peek(At(0)), std::nullopt);
  EXPECT_EQ(Peek(At(1)), std::nullopt);
  EXPECT_EQ(window_->vm().Query()->size(), 0U);
}

TEST_P(VmMemoryMapperTest, CreationErrors) {
  EXPECT_THAT(NewVmMemoryMapper(&*window_, {kBase, GiB(1)}),
              FailsWith(EINVAL, "doesn't lie in the window"));
  ASSERT_THAT(window_->vm().Map(*memory_, {.guest_address = kBase, .size = kPage}), IsOk());
  EXPECT_THAT(NewVmMemoryMapper(&*window_, {kBase, kPage}), FailsWith(EEXIST, "unmap that first"));
  auto read_only =
      Window::Create(window_->vm(), {kBase, kPage}, {.access = MemoryAccess::kReadOnly});
  ASSERT_THAT(read_only, IsOk());
  EXPECT_THAT(NewVmMemoryMapper(&*read_only, {kBase, kPage}), FailsWith(EACCES, "read-only"));
}

TEST_P(VmMemoryMapperTest, ManyThreads) {
  std::vector<std::thread> threads;
  for (uint64_t first = 0; first < kNrPages; first += 4) {
    threads.emplace_back([this, first] {
      for (int round = 0; round < 50; ++round) {
        const int fd = round % 2 == 0 ? memory_->fd() : file_.get();
        ASSERT_THAT(mapper_->Map(Piece(fd, first, 4)), IsOk());
        *static_cast<volatile uint8_t*>(At(first)) = 1;
        ASSERT_THAT(mapper_->Unmap(Piece(fd, first, 4).range()), IsOk());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(window_->vm().Query()->size(), 0U);
}

}  // namespace
}  // namespace gmem
