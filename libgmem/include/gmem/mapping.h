// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_MAPPING_H_
#define GMEM_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"

namespace gmem {

/// The accesses that a mapping, or a binding of it, allows.
enum class MemoryAccess { kReadOnly, kReadWrite };

/// The page size of the host, in bytes. Thread-safe.
ByteSize HostPageSize();

/// Owns a memory mapping of this process, and unmaps it when destroyed. Move-only; the addresses
/// stay the same when the object moves.
///
/// @par Thread safety
/// Thread-safe: OfFile(), Reserve(), data(), size(), span(). The callers order their accesses to
/// the memory itself.\n
/// Needs exclusive access: Reset(), Release(), moving, destroying.
class Mapping {
 public:
  struct FileOptions {
    /// First byte of the file to map; a multiple of the page size.
    ByteOffset offset = {};
    /// In bytes; not 0. For a hugetlb file a multiple of its huge page size, else InvalidArgument
    /// (EINVAL).
    ByteSize size = {};
    MemoryAccess access = MemoryAccess::kReadWrite;
  };

  /// Owns nothing.
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { Reset(); }

  /// Maps part of a file. All mappings of the file share its memory. The caller may close @p fd
  /// afterwards.
  static absl::StatusOr<Mapping> OfFile(int fd, const FileOptions& options);

  /// Reserves addresses without access: reading or writing there raises SIGSEGV. @p size is a
  /// multiple of the page size and not 0; @p alignment is a power of two.
  static absl::StatusOr<Mapping> Reserve(ByteSize size, ByteSize alignment = HostPageSize());

  /// The first byte; nullptr if the object owns nothing.
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  absl::Span<uint8_t> span() const { return absl::MakeSpan(data_, size_); }

  /// The addresses [offset, offset + size) of the mapping; empty if the mapping doesn't contain all
  /// of them.
  absl::Span<uint8_t> span(ByteRange range) const;

  /// Unmaps the memory. Has no effect if the object owns nothing.
  void Reset();

  /// Gives the memory to the caller, who must unmap it.
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
