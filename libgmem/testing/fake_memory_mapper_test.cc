// SPDX-License-Identifier: MIT OR Apache-2.0
// The contract of MemoryMapper, on the double that other tests use.
#include "testing/fake_memory_mapper.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmem/memory_mapper.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::doubles {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;

class FakeMemoryMapperTest : public testing::Test {
 protected:
  void SetUp() override {
    auto mapper = FakeMemoryMapper::Create(ByteSize(16 * kPage));
    ASSERT_TRUE(mapper.ok()) << mapper.status();
    mapper_ = *std::move(mapper);
    file_ = UniqueFd(memfd_create("file", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file_.get(), 16 * kPage), 0);
    for (int page = 0; page < 16; ++page) {
      const auto mark = static_cast<uint8_t>(page + 1);
      ASSERT_EQ(pwrite(file_.get(), &mark, 1, page * static_cast<off_t>(kPage)), 1);
    }
  }

  MemoryMapper::Piece Pages(uint64_t first, uint64_t count, uint64_t file_page = 0) const {
    return {.fd = file_.get(),
            .fd_offset = ByteOffset(file_page * kPage),
            .offset = ByteOffset(first * kPage),
            .size = ByteSize(count * kPage)};
  }
  // Volatile: the compiler must keep the access even if only its failure matters.
  uint8_t At(uint64_t page) const {
    const volatile uint8_t* const byte = &mapper_->memory()[page * kPage];
    return *byte;
  }

  std::unique_ptr<FakeMemoryMapper> mapper_;
  UniqueFd file_;
};

TEST_F(FakeMemoryMapperTest, NothingIsAccessibleAtFirst) {
  EXPECT_EQ(mapper_->size(), ByteSize(16 * kPage));
  EXPECT_EQ(mapper_->page_size(), ByteSize(kPage));
  EXPECT_DEATH(At(0), "");
}

TEST_F(FakeMemoryMapperTest, MapsThePiece) {
  ASSERT_EQ(mapper_->Map(Pages(2, 3, 5)), absl::OkStatus());
  EXPECT_EQ(At(2), 6);
  EXPECT_EQ(At(4), 8);
  EXPECT_DEATH(At(1), "");
  EXPECT_DEATH(At(5), "");
}

TEST_F(FakeMemoryMapperTest, MappingOutlivesTheDescriptor) {
  ASSERT_EQ(mapper_->Map(Pages(0, 1)), absl::OkStatus());
  file_.reset();
  EXPECT_EQ(At(0), 1);
}

TEST_F(FakeMemoryMapperTest, ReadOnly) {
  MemoryMapper::Piece piece = Pages(0, 1);
  piece.access = MemoryAccess::kReadOnly;
  ASSERT_EQ(mapper_->Map(piece), absl::OkStatus());
  EXPECT_EQ(At(0), 1);
  EXPECT_DEATH(mapper_->memory()[0] = 2, "");
}

TEST_F(FakeMemoryMapperTest, NeedsRightsToTheFile) {
  UniqueFd read_only(open(("/proc/self/fd/" + std::to_string(file_.get())).c_str(), O_RDONLY));
  MemoryMapper::Piece piece = Pages(0, 1);
  piece.fd = read_only.get();
  const absl::Status status = mapper_->Map(piece);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  piece.access = MemoryAccess::kReadOnly;
  EXPECT_EQ(mapper_->Map(piece), absl::OkStatus());
}

TEST_F(FakeMemoryMapperTest, RefusesWrongNumbers) {
  const auto error = [this](uint64_t offset, uint64_t fd_offset, uint64_t size) {
    return GetErrno(mapper_->Map({.fd = file_.get(),
                                  .fd_offset = ByteOffset(fd_offset),
                                  .offset = ByteOffset(offset),
                                  .size = ByteSize(size)}));
  };
  constexpr uint64_t kLastPage = std::numeric_limits<uint64_t>::max() - kPage + 1;
  EXPECT_EQ(error(0, 0, 0), EINVAL);
  EXPECT_EQ(error(1, 0, kPage), EINVAL);
  EXPECT_EQ(error(0, 1, kPage), EINVAL);
  EXPECT_EQ(error(0, 0, kPage + 1), EINVAL);
  EXPECT_EQ(error(16 * kPage, 0, kPage), EINVAL);
  EXPECT_EQ(error(0, 0, 17 * kPage), EINVAL);
  EXPECT_EQ(error(kLastPage, 0, kPage), EOVERFLOW);
  EXPECT_EQ(error(0, kLastPage, kPage), EOVERFLOW);
  EXPECT_EQ(mapper_->piece_count(), 0U);
}

TEST_F(FakeMemoryMapperTest, RefusesDescriptorsThatAreNoFile) {
  MemoryMapper::Piece piece = Pages(0, 1);
  piece.fd = -1;
  EXPECT_EQ(GetErrno(mapper_->Map(piece)), EBADF);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  piece.fd = reader.get();
  EXPECT_EQ(GetErrno(mapper_->Map(piece)), EACCES);
  EXPECT_DEATH(At(0), "");
}

TEST_F(FakeMemoryMapperTest, RefusesOverlap) {
  ASSERT_EQ(mapper_->Map(Pages(4, 4)), absl::OkStatus());
  for (const auto& piece : {Pages(4, 4), Pages(3, 2), Pages(7, 2), Pages(5, 1), Pages(0, 16)}) {
    const absl::Status status = mapper_->Map(piece);
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << piece.range();
    EXPECT_THAT(std::string(status.message()), HasSubstr("0x4000..0x7fff"));
  }
  EXPECT_EQ(mapper_->Map(Pages(0, 4)), absl::OkStatus());
  EXPECT_EQ(mapper_->Map(Pages(8, 8)), absl::OkStatus());
}

TEST_F(FakeMemoryMapperTest, UnmapTakesOnlyAWholePiece) {
  ASSERT_EQ(mapper_->Map(Pages(4, 4)), absl::OkStatus());
  ASSERT_EQ(mapper_->Map(Pages(8, 4)), absl::OkStatus());
  for (const auto& piece : {Pages(4, 3), Pages(5, 3), Pages(4, 8), Pages(0, 4), Pages(12, 1)}) {
    EXPECT_EQ(mapper_->Unmap(piece.range()).code(), absl::StatusCode::kNotFound) << piece.range();
  }
  EXPECT_EQ(At(4), 1);
  EXPECT_EQ(mapper_->Unmap(Pages(4, 4).range()), absl::OkStatus());
  EXPECT_DEATH(At(4), "");
  EXPECT_EQ(At(8), 1);
  EXPECT_EQ(mapper_->Unmap(Pages(4, 4).range()).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(mapper_->Map(Pages(5, 2, 9)), absl::OkStatus());
  EXPECT_EQ(At(5), 10);
}

TEST_F(FakeMemoryMapperTest, HasALimit) {
  auto mapper = FakeMemoryMapper::Create(ByteSize((FakeMemoryMapper::kMaxPieces + 1) * kPage));
  ASSERT_TRUE(mapper.ok());
  uint64_t page = 0;
  for (; page < FakeMemoryMapper::kMaxPieces; ++page) {
    ASSERT_EQ((*mapper)->Map(Pages(page, 1)), absl::OkStatus());
  }
  EXPECT_EQ((*mapper)->Map(Pages(page, 1)).code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ((*mapper)->Unmap(Pages(3, 1).range()), absl::OkStatus());
  EXPECT_EQ((*mapper)->Map(Pages(page, 1)), absl::OkStatus());
}

TEST_F(FakeMemoryMapperTest, FailureChangesNothing) {
  mapper_->FailNext(absl::InternalError("as told"));
  EXPECT_EQ(mapper_->Map(Pages(0, 1)), absl::InternalError("as told"));
  EXPECT_EQ(mapper_->Map(Pages(0, 1)), absl::OkStatus());

  mapper_->FailNext(absl::InternalError("as told"));
  EXPECT_EQ(mapper_->Unmap(Pages(0, 1).range()), absl::InternalError("as told"));
  EXPECT_EQ(At(0), 1);
  EXPECT_EQ(mapper_->Unmap(Pages(0, 1).range()), absl::OkStatus());
}

TEST_F(FakeMemoryMapperTest, UnmapAll) {
  for (uint64_t page : {9, 3, 6}) ASSERT_EQ(mapper_->Map(Pages(page, 1)), absl::OkStatus());
  mapper_->FailNext(absl::InternalError("as told"));
  EXPECT_EQ(mapper_->UnmapAll(), absl::InternalError("as told"));
  EXPECT_EQ(mapper_->piece_count(), 1U);
  EXPECT_EQ(At(3), 1);
  EXPECT_EQ(mapper_->UnmapAll(), absl::OkStatus());
  EXPECT_EQ(mapper_->piece_count(), 0U);
  EXPECT_EQ(mapper_->Map(Pages(0, 16)), absl::OkStatus());
}

TEST_F(FakeMemoryMapperTest, ListsItsPieces) {
  EXPECT_FALSE(mapper_->NextPiece(ByteOffset(0)).has_value());
  MemoryMapper::Piece read_only = Pages(8, 1);
  read_only.access = MemoryAccess::kReadOnly;
  ASSERT_EQ(mapper_->Map(read_only), absl::OkStatus());
  ASSERT_EQ(mapper_->Map(Pages(2, 3)), absl::OkStatus());
  EXPECT_FALSE(mapper_->Map(Pages(4, 1)).ok());
  EXPECT_EQ(mapper_->nr_pieces(), 2U);
  // The piece at the offset, or else the next one.
  for (const uint64_t offset : {uint64_t{0}, 2 * kPage, 5 * kPage - 1}) {
    const auto piece = mapper_->NextPiece(ByteOffset(offset));
    ASSERT_TRUE(piece.has_value()) << offset;
    EXPECT_EQ(piece->range, Pages(2, 3).range()) << offset;
    EXPECT_EQ(piece->access, MemoryAccess::kReadWrite) << offset;
  }
  const auto second = mapper_->NextPiece(ByteOffset(5 * kPage));
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->range, read_only.range());
  EXPECT_EQ(second->access, MemoryAccess::kReadOnly);
  EXPECT_FALSE(mapper_->NextPiece(second->range.end()).has_value());
  EXPECT_FALSE(mapper_->NextPiece(ByteOffset(std::numeric_limits<uint64_t>::max())).has_value());
  ASSERT_EQ(mapper_->Unmap(Pages(2, 3).range()), absl::OkStatus());
  EXPECT_EQ(mapper_->NextPiece(ByteOffset(0))->range, read_only.range());
  EXPECT_EQ(mapper_->nr_pieces(), 1U);
}

// A piece that couldn't be unmapped is still there.
TEST_F(FakeMemoryMapperTest, ListsThePiecesThatStay) {
  for (uint64_t page : {9, 3, 6}) ASSERT_EQ(mapper_->Map(Pages(page, 1)), absl::OkStatus());
  mapper_->FailNext(absl::InternalError("as told"));
  EXPECT_FALSE(mapper_->Unmap(Pages(9, 1).range()).ok());
  EXPECT_EQ(mapper_->NextPiece(ByteOffset(9 * kPage))->range, Pages(9, 1).range());
  mapper_->FailNext(absl::InternalError("as told"));
  EXPECT_FALSE(mapper_->UnmapAll().ok());
  EXPECT_EQ(mapper_->nr_pieces(), mapper_->piece_count());
  EXPECT_EQ(mapper_->NextPiece(ByteOffset(0))->range, Pages(3, 1).range());
  EXPECT_FALSE(mapper_->NextPiece(ByteOffset(4 * kPage)).has_value());
}

TEST_F(FakeMemoryMapperTest, ManyThreads) {
  std::vector<std::thread> threads;
  for (uint64_t first = 0; first < 4; ++first) {
    threads.emplace_back([this, first] {
      for (int round = 0; round < 200; ++round) {
        ASSERT_EQ(mapper_->Map(Pages(4 * first, 4)), absl::OkStatus());
        ASSERT_EQ(mapper_->Unmap(Pages(4 * first, 4).range()), absl::OkStatus());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mapper_->piece_count(), 0U);
}

}  // namespace
}  // namespace gmem::doubles
