// SPDX-License-Identifier: MIT OR Apache-2.0
// A MemoryMapper for tests: the region is memory of this process. Not installed.
#ifndef GMEM_TESTING_FAKE_MEMORY_MAPPER_H_
#define GMEM_TESTING_FAKE_MEMORY_MAPPER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "mapper/region_mapper.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::doubles {

// Really maps, so that a test sees in memory() what a guest would see. Thread-safe.
class FakeMemoryMapper final : public internal::RegionMapper {
 public:
  static constexpr size_t kMaxPieces = 64;

  static absl::StatusOr<std::unique_ptr<FakeMemoryMapper>> Create(ByteSize size);

  // The region as the guest sees it: a touch of a page that isn't mapped raises SIGSEGV.
  absl::Span<uint8_t> memory() const { return memory_.span(); }

  // Lets the next Map() or Unmap() whose arguments are correct fail with @status.
  void FailNext(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_) {
    internal::MutexLock lock(&mutex_);
    next_status_ = std::move(status);
  }

  // How many pieces are mapped now: counts the mappings, apart from the list behind nr_pieces().
  size_t piece_count() const ABSL_LOCKS_EXCLUDED(mutex_) {
    internal::MutexLock lock(&mutex_);
    return piece_count_;
  }

 private:
  explicit FakeMemoryMapper(Mapping memory);

  absl::Status DoMap(const Piece& piece) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status DoUnmap(ByteRange range) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Mapping memory_;
  absl::Status next_status_ ABSL_GUARDED_BY(mutex_);
  size_t piece_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace gmem::doubles
#pragma GCC visibility pop

#endif  // GMEM_TESTING_FAKE_MEMORY_MAPPER_H_
