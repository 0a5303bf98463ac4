// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/shmem.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gtest/gtest.h"
#include "testing/fake_memory_mapper.h"

namespace {
// Counts for the whole program, which has no other threads.
size_t nr_allocations = 0;
}  // namespace

// Not inline, or the compiler would warn that memory of new goes to free().
[[gnu::noinline]] void* operator new(size_t size) {
  nr_allocations++;
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t /*size*/) noexcept {
  std::free(memory);
}

namespace gmem::vhost {
namespace {

constexpr uint64_t kPage = 4096;

class ShmemRegionsTest : public testing::Test {
 protected:
  void SetUp() override {
    file_.reset(memfd_create("mapped", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file_.get(), kPage), 0);
  }

  static ShmemMapping At(uint64_t page, uint8_t shmid = 0) {
    return {.shmid = shmid,
            .padding = {},
            .fd_offset = 0,
            .shm_offset = page * kPage,
            .len = kPage,
            .flags = kShmemMapRw};
  }
  static void Configure(ShmemRegions& regions, uint32_t count) {
    ShmemConfig config = {.nr_regions = count, .padding = 0, .sizes = {}};
    for (uint32_t i = 0; i < count; i++) config.sizes[i] = 64 * kPage;
    ASSERT_TRUE(regions.Configure(config).ok());
  }

  UniqueFd file_;
};

TEST_F(ShmemRegionsTest, MapLookUpAndUnmapAllocateNothing) {
  ShmemRegions regions([](uint8_t, ByteSize size) { return NewHostRegion(size); });
  Configure(regions, 2);
  // Other places and another region each time.
  for (const uint64_t step : {3, 1, 2}) {
    const size_t before = nr_allocations;
    for (uint64_t i = 0; i < 20; i++) {
      ASSERT_TRUE(regions.Map(At(i * step, step & 1), file_.get()).ok());
    }
    ASSERT_NE(regions.HostAddress(step & 1, ByteOffset(19 * step * kPage)), nullptr);
    EXPECT_EQ(regions.nr_mappings(), 20U);
    for (uint64_t i = 0; i < 20; i++) ASSERT_TRUE(regions.Unmap(At(i * step, step & 1)).ok());
    EXPECT_EQ(regions.nr_mappings(), 0U);
    EXPECT_EQ(nr_allocations, before);
  }
}

TEST_F(ShmemRegionsTest, MappingsThatCannotBeUnmappedStay) {
  gmem::doubles::FakeMemoryMapper* mapper = nullptr;
  ShmemRegions regions([&](uint8_t, ByteSize size) -> absl::StatusOr<ShmemRegion> {
    auto made = gmem::doubles::FakeMemoryMapper::Create(size);
    if (!made.ok()) return made.status();
    mapper = made->get();
    return ShmemRegion{.mapper = *std::move(made), .host = mapper->memory().data()};
  });
  Configure(regions, 1);
  for (const uint64_t page : {1, 2, 3}) ASSERT_TRUE(regions.Map(At(page), file_.get()).ok());
  mapper->FailNext(absl::InternalError("as told"));
  EXPECT_TRUE(regions.Unmap(At(2)).code() == absl::StatusCode::kInternal);
  EXPECT_EQ(regions.nr_mappings(), 3U);
  mapper->FailNext(absl::InternalError("as told"));
  EXPECT_EQ(regions.UnmapAll(), absl::InternalError("as told"));
  // The second try has unmapped it.
  EXPECT_EQ(regions.nr_mappings(), mapper->piece_count());
  EXPECT_TRUE(regions.UnmapAll().ok());
  EXPECT_EQ(regions.nr_mappings(), 0U);
  EXPECT_EQ(mapper->piece_count(), 0U);
  EXPECT_FALSE(regions.Find(0, ByteOffset(kPage)).has_value());
}

}  // namespace
}  // namespace gmem::vhost
