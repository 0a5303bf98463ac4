// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "gmem/window_descriptor.h"
#include "testing/module.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr GuestAddress kBase(0x40000000);
constexpr uint64_t kNrPages = 16;

GuestRange Pages(uint64_t first, uint64_t count) { return {kBase + first * kPage, count * kPage}; }
ByteRange Part(uint64_t first, uint64_t count) {
  return {ByteOffset((first * kPage).value()), count * kPage};
}

class WindowDescriptorTest : public ModuleTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(ModuleTest::SetUp());
    if (!HasLiveWindows()) GTEST_SKIP() << kNoLiveWindows;
    if (!device().Info()->has_window_descriptors) {
      GTEST_SKIP() << "the module has no window descriptors";
    }
    memory_ = NewMemory(kNrPages * kPage);
    vm_ = NewVm({.windows = WindowKind::kLive});
  }
  void TearDown() override {
    vm_.reset();
    memory_.reset();
    ModuleTest::TearDown();
  }
  void Bind(uint64_t first, uint64_t count, bool write = true) const {
    ASSERT_THAT(vm_->Map(*memory_, {.guest_address = Pages(first, 1).start,
                                    .offset = Part(first, 1).start,
                                    .size = count * kPage,
                                    .write = write}),
                IsOk());
  }

  std::optional<GuestMemory> memory_;
  std::optional<Vm> vm_;
};

// The holder's mapping follows the bindings, and reaches nothing outside of its range.
TEST_F(WindowDescriptorTest, ShowsTheGuestsMemory) {
  ASSERT_NO_FATAL_FAILURE(Bind(0, 4));
  auto window = vm_->OpenWindow(Pages(2, 8), {.name = "for QEMU"});
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(window->range(), Pages(2, 8));
  EXPECT_EQ(fcntl(window->fd(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(lseek(window->fd(), 0, SEEK_END), static_cast<off_t>((8 * kPage).value()));
  struct stat stat = {};
  ASSERT_EQ(fstat(window->fd(), &stat), 0);
  EXPECT_EQ(stat.st_ino, window->id());

  const auto mapping = window->Map();
  ASSERT_THAT(mapping, IsOk());
  EXPECT_TRUE(Poke(mapping->data(), 7));
  EXPECT_EQ(memory_->Query(Part(2, 1))->lent, 1U);
  EXPECT_EQ(Peek(mapping->data() + (2 * kPage).value()), std::nullopt);
  EXPECT_EQ(vm_->Faults()->faults.back().page, kBase + 4 * kPage);
  ASSERT_NO_FATAL_FAILURE(Bind(4, 1));
  EXPECT_TRUE(Poke(mapping->data() + (2 * kPage).value(), 8));
  EXPECT_EQ(*vm_->Unmap(Pages(4, 1)), 1U);
  EXPECT_EQ(Peek(mapping->data() + (2 * kPage).value()), std::nullopt);
  const auto part = window->Map(Part(1, 2), MemoryAccess::kReadOnly);
  ASSERT_THAT(part, IsOk());
  EXPECT_EQ(Peek(part->data()), 0);
  EXPECT_FALSE(Poke(part->data(), 1));
  EXPECT_THAT(window->Map(Part(7, 2)), FailsWith(EINVAL, "beyond the 32 KiB"));
  EXPECT_EQ(mmap(nullptr, 8192, PROT_READ, MAP_SHARED, window->fd(), 7 * 4096), MAP_FAILED);
  EXPECT_THAT(Vm::Adopt(*UniqueFd::Duplicate(window->fd())), FailsWith(EINVAL, "is not a VM"));
}

TEST_F(WindowDescriptorTest, Discards) {
  ASSERT_NO_FATAL_FAILURE(Bind(0, 4));
  ASSERT_NO_FATAL_FAILURE(Bind(6, 2, /*write=*/false));
  auto window = vm_->OpenWindow(Pages(0, kNrPages));
  ASSERT_THAT(window, IsOk());
  const auto mapping = window->Map();
  ASSERT_THAT(mapping, IsOk());
  EXPECT_TRUE(Poke(mapping->data(), 7));
  EXPECT_TRUE(Poke(mapping->data() + kPage.value(), 8));
  // Pages 4 and 5 aren't bound.
  EXPECT_THAT(window->Discard(Part(1, 5)), IsOk());
  EXPECT_EQ(memory_->Query(Part(0, 2))->absent, 1U);
  EXPECT_EQ(Peek(mapping->data()), 7);
  EXPECT_EQ(Peek(mapping->data() + kPage.value()), 0);
  EXPECT_THAT(window->Discard(Part(0, 8)), FailsWith(EACCES, "doesn't let the guest write"));
  EXPECT_EQ(Peek(mapping->data()), 7);
  EXPECT_THAT(window->Discard(Part(15, 2)), FailsWith(EINVAL, "beyond the 64 KiB"));
}

TEST_F(WindowDescriptorTest, RightsAreLimited) {
  ASSERT_NO_FATAL_FAILURE(Bind(0, 4));
  auto read_only = vm_->OpenWindow(Pages(0, 4), {.read_only = true});
  ASSERT_THAT(read_only, IsOk());
  EXPECT_THAT(read_only->Map(), FailsWith(EACCES, "for writing"));
  const auto mapping = read_only->Map(MemoryAccess::kReadOnly);
  ASSERT_THAT(mapping, IsOk());
  EXPECT_EQ(Peek(mapping->data()), 0);
  EXPECT_EQ(mprotect(mapping->data(), kPage.value(), PROT_READ | PROT_WRITE), -1);
  EXPECT_THAT(read_only->Discard(Part(0, 1)), FailsWith(EOPNOTSUPP, "read-only"));
  // The test is root, to whom the file's mode says nothing.
  const std::string path = "/proc/self/fd/" + std::to_string(read_only->fd());
  EXPECT_EQ(open(path.c_str(), O_RDWR | O_CLOEXEC), -1);

  auto no_discard = vm_->OpenWindow(Pages(0, 4), {.allow_discard = false});
  ASSERT_THAT(no_discard, IsOk());
  EXPECT_THAT(no_discard->Map(), IsOk());
  EXPECT_THAT(no_discard->Discard(Part(0, 1)), FailsWith(EOPNOTSUPP, "allow_discard"));
}

TEST_F(WindowDescriptorTest, KeepsItsVm) {
  ASSERT_NO_FATAL_FAILURE(Bind(0, 4));
  auto window = vm_->OpenWindow(Pages(0, 4));
  ASSERT_THAT(window, IsOk());
  vm_.reset();
  memory_.reset();
  auto mapping = window->Map();
  ASSERT_THAT(mapping, IsOk());
  EXPECT_TRUE(Poke(mapping->data(), 7));
  std::move(*window).Release().reset();
  EXPECT_EQ(Peek(mapping->data()), 7);
}

TEST_F(WindowDescriptorTest, Errors) {
  EXPECT_THAT(vm_->OpenWindow({kBase, ByteSize(0)}), FailsWith(EINVAL, "size is 0"));
  EXPECT_THAT(vm_->OpenWindow({kBase + ByteSize(1), kPage}), FailsWith(EINVAL, "guest_addr"));
  EXPECT_THAT(vm_->OpenWindow({GuestAddress(uint64_t{1} << 52), kPage}),
              FailsWith(EINVAL, "52-bit guest address space"));
  EXPECT_THAT(NewVm({.windows = WindowKind::kPaged}).OpenWindow(Pages(0, 1)),
              FailsWith(EOPNOTSUPP, "create it with WindowKind::kLive"));
}

}  // namespace
}  // namespace gmem
