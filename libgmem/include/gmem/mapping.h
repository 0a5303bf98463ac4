// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_MAPPING_H_
#define GMEM_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"

namespace gmem {

/// What may be done to memory through a mapping or a binding of it.
enum class MemoryAccess { kReadOnly, kReadWrite };

/// The page size of the host, in bytes. Thread-safe.
ByteSize HostPageSize();

/// The owner of a memory mapping of this process: unmaps it at the end of its life.
/// Move-only; moving leaves the memory where it is.
///
/// @par Thread safety
/// Thread-safe: OfFile(), Reserve(), data(), size(), span(). What threads do to the memory
/// itself is theirs to order.\n
/// Needs exclusive access: Reset(), Release(), moving, destroying.
class Mapping {
 public:
  struct FileOptions {
    /// First byte of the file; a multiple of the page size.
    ByteOffset offset = {};
    /// Not 0; of a hugetlb file, whole huge pages, else InvalidArgument (EINVAL).
    ByteSize size = {};
    MemoryAccess access = MemoryAccess::kReadWrite;
  };

  /// Owns nothing.
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { Reset(); }

  /// Maps part of a file, shared with all who use that file. The descriptor may be
  /// closed afterwards.
  static absl::StatusOr<Mapping> OfFile(int fd, const FileOptions& options);

  /// Reserves addresses that nothing can be read from or written to. @p size is a
  /// multiple of the page size, and not 0; @p alignment a power of two.
  static absl::StatusOr<Mapping> Reserve(ByteSize size, ByteSize alignment = HostPageSize());

  /// nullptr if nothing is owned.
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  absl::Span<uint8_t> span() const { return absl::MakeSpan(data_, size_); }

  /// The addresses [offset, offset + size), empty if they aren't all in the mapping.
  absl::Span<uint8_t> span(ByteRange range) const;

  /// Unmaps.
  void Reset();

  /// Gives the memory away: it stays mapped, and is the caller's from now on.
  absl::Span<uint8_t> Release() {
    const size_t size = std::exchange(size_, 0);
    return {std::exchange(data_, nullptr), size};
  }

 private:
  Mapping(uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace gmem

#endif  // GMEM_MAPPING_H_
