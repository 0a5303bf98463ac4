// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// The descriptors that a driver made available together: memory for the device to read, and memory
/// to write. Virtqueue::Pop() fills a chain, Virtqueue::Push() gives it back. Reuse a chain object:
/// it allocates nothing once it has had its largest content, of up to kMaxSpans pieces. Pop() frees
/// the room for more.
///
/// The guest may change the memory at any time: copy a value before you check it, and use the copy.
/// The driver chooses the lengths: Read() and Write() return how many bytes they copied.
///
/// Thread-compatible. The members are part of the ABI of the shared library, because devices keep
/// chains and their compilers inline these methods. So the members don't change.
class Chain {
 public:
  /// A chain has at most as many descriptors as its virtqueue has entries (virtio 1.3, 2.7.5). But
  /// Linux lets indirect tables have more, so chains of up to this number always pass.
  static constexpr size_t kMaxIndirect = 1024;
  /// A chain may have twice as many contiguous pieces of memory as descriptors, and always this
  /// number.
  static constexpr size_t kMaxSpans = 2 * kMaxIndirect;

  Chain() = default;
  Chain(Chain&& other) noexcept = default;
  Chain& operator=(Chain&& other) noexcept = default;

  /// The pieces, in the driver's order.
  absl::Span<const GuestSpan> readable() const { return {spans_.data(), nr_readable_}; }
  absl::Span<const GuestSpan> writable() const {
    return {spans_.data() + nr_readable_, nr_spans_ - nr_readable_};
  }
  /// Bytes of all pieces.
  uint64_t readable_size() const { return readable_size_; }
  uint64_t writable_size() const { return writable_size_; }

  /// Copies at most @p size readable bytes, from @p offset on. Returns the bytes copied.
  size_t Read(uint64_t offset, void* to, size_t size) const;
  /// Copies at most @p size bytes to the writable pieces, from @p offset on. Returns how many it
  /// copied.
  size_t Write(uint64_t offset, const void* from, size_t size) const;

  /// Copies a struct. False if the chain has less than all of it.
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

  /// The virtqueue's name for the chain.
  struct Token {
    /// The head's index; in a packed ring, the buffer's id.
    uint16_t id = 0;
    /// The place among the chains in flight, and how many chains had that place before.
    uint16_t generation = 0;
    uint16_t place = 0;
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
