// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_CHAIN_H_
#define GMEM_VHOST_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "absl/types/span.h"
#include "gmem/vhost/guest_memory_map.h"

namespace gmem::vhost {

namespace virtqueue_internal {
class ChainBuilder;
}  // namespace virtqueue_internal

/// What a driver made available at once: memory for the device to read, and memory to
/// write. Virtqueue::Pop() fills one, Virtqueue::Push() gives it back. Use one again and
/// again: then nothing is allocated once it has had its largest content.
///
/// The guest may change the memory at any time, and lengths are the driver's: Read() and
/// Write() say how much there was, and what is decided on must be a copy.
///
/// Thread-compatible.
class Chain {
 public:
  /// Descriptors of one chain, and the pieces of memory that they may fall into.
  static constexpr size_t kMaxDescriptors = 1024;
  static constexpr size_t kMaxSpans = 2048;

  Chain() = default;
  Chain(Chain&& other) noexcept = default;
  Chain& operator=(Chain&& other) noexcept = default;

  /// In the order in which the driver has put them.
  absl::Span<const GuestSpan> readable() const { return {spans_.data(), nr_readable_}; }
  absl::Span<const GuestSpan> writable() const {
    return {spans_.data() + nr_readable_, nr_spans_ - nr_readable_};
  }
  /// Bytes in all of them.
  uint64_t readable_size() const { return readable_size_; }
  uint64_t writable_size() const { return writable_size_; }

  /// Copies from the readable bytes, from @p offset on: how many there were, at most
  /// @p size.
  size_t Read(uint64_t offset, void* to, size_t size) const;
  /// Copies to the writable bytes, from @p offset on: how many there was room for, at
  /// most @p size.
  size_t Write(uint64_t offset, const void* from, size_t size) const;

  /// Reads a struct. False if the driver gave less than all of it.
  template <typename T>
  [[nodiscard]] bool ReadStruct(uint64_t offset, T& to) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return Read(offset, &to, sizeof(to)) == sizeof(to);
  }
  template <typename T>
  [[nodiscard]] bool WriteStruct(uint64_t offset, const T& from) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return Write(offset, &from, sizeof(from)) == sizeof(from);
  }

  /// How the virtqueue knows it again.
  struct Token {
    /// The head's index, or the buffer's id in a packed ring.
    uint16_t id = 0;
    /// Places that it has in the ring.
    uint16_t slots = 0;
    /// Of the inflight region, in a packed ring.
    uint16_t entry = 0;
  };
  const Token& token() const { return token_; }

 private:
  friend class virtqueue_internal::ChainBuilder;

  std::vector<GuestSpan> spans_;
  size_t nr_spans_ = 0;
  size_t nr_readable_ = 0;
  uint64_t readable_size_ = 0;
  uint64_t writable_size_ = 0;
  Token token_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_CHAIN_H_
