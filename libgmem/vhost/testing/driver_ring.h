// SPDX-License-Identifier: MIT OR Apache-2.0
// The driver's half of virtio, for tests and benchmarks: guest memory, and split virtqueues in that
// memory. The back-end at the other end does real work.
#ifndef GMEM_VHOST_TESTING_DRIVER_RING_H_
#define GMEM_VHOST_TESTING_DRIVER_RING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::doubles {

/// Guest memory: a file that a back-end can map, and an allocator for it.
///
/// Thread-compatible.
class DriverMemory {
 public:
  /// Makes @p size bytes of memory, a multiple of the page size. The guest sees them at @p
  /// guest_address.
  static absl::StatusOr<std::unique_ptr<DriverMemory>> Create(size_t size,
                                                              uint64_t guest_address = uint64_t{1}
                                                                                       << 32);
  /// Takes over a file of at least @p size bytes, a guestmem for example.
  static absl::StatusOr<std::unique_ptr<DriverMemory>> Adopt(UniqueFd fd, size_t size,
                                                             uint64_t guest_address = uint64_t{1}
                                                                                      << 32);
  DriverMemory(const DriverMemory&) = delete;
  DriverMemory& operator=(const DriverMemory&) = delete;
  ~DriverMemory();

  int fd() const { return fd_.get(); }
  /// The region for the memory table; send it with fd().
  MemoryRegion region() const;
  absl::Span<uint8_t> bytes() const { return {base_, size_}; }

  /// Allocates @p size bytes, zeroed, at a multiple of @p alignment, which is a power of two. They
  /// can't be freed. ResourceExhausted (ENOMEM) if too few bytes are left.
  absl::StatusOr<absl::Span<uint8_t>> Allocate(size_t size, size_t alignment = 64);

  /// The guest address of @p pointer, which must point into this memory.
  uint64_t GuestAddress(const void* pointer) const;

 private:
  DriverMemory(UniqueFd fd, uint8_t* base, size_t size, uint64_t guest_address)
      : fd_(std::move(fd)), base_(base), size_(size), guest_address_(guest_address) {}

  UniqueFd fd_;
  uint8_t* base_;
  size_t size_;
  size_t used_ = 0;
  uint64_t guest_address_;
};

/// A split virtqueue (virtio 1.3, 2.7), without indirect descriptors and event indices. Add(),
/// Kick(), Next() and Wait() allocate nothing.
///
/// Thread-compatible.
class DriverRing {
 public:
  struct Buffer {
    /// Bytes of the ring's memory.
    absl::Span<uint8_t> bytes;
    /// Does the device write the buffer? Such buffers come last in a chain.
    bool is_writable = false;
  };
  /// A chain that the device has used.
  struct Used {
    /// The number that Add() returned for the chain.
    uint16_t head;
    /// The number of bytes that the device reports as written.
    uint32_t written;
  };

  /// Makes a ring of @p size entries, a power of two. @p memory must outlive the ring.
  static absl::StatusOr<DriverRing> Create(DriverMemory& memory, uint16_t size);

  uint16_t size() const { return size_; }
  /// The addresses for SET_VRING_ADDR, as user addresses.
  VringAddress address(uint32_t index) const;
  /// For SET_VRING_KICK and SET_VRING_CALL.
  int kick_fd() const { return kick_.get(); }
  int call_fd() const { return call_.get(); }
  /// How many chains the device has used. A new back-end starts from this index.
  uint16_t used_index() const;

  /// Makes a chain available. ResourceExhausted (ENOSPC) if too few descriptors are free. Call
  /// Kick() afterwards, so that the device notices.
  absl::StatusOr<uint16_t> Add(absl::Span<const Buffer> chain);

  /// Notifies the device, unless the device has switched notifications off.
  void Kick();

  /// Makes a chain available whose head isn't in the ring, and kicks.
  void Corrupt();

  /// Returns a used chain, if there is one now, and frees its descriptors. DataLoss (EBADMSG) if
  /// the device returned a chain that it doesn't have.
  absl::StatusOr<std::optional<Used>> Next();

  /// Waits for a used chain. DeadlineExceeded (ETIMEDOUT) if none comes.
  absl::StatusOr<Used> Wait(absl::Duration timeout);

 private:
  struct Descriptor;
  struct UsedElement;

  DriverRing() = default;

  DriverMemory* memory_ = nullptr;
  uint16_t size_ = 0;
  Descriptor* descriptors_ = nullptr;
  // flags, index, entries
  uint16_t* available_ = nullptr;
  // flags, index, elements
  uint16_t* used_ = nullptr;
  UniqueFd kick_;
  UniqueFd call_;
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  // The free descriptors, and the length of each chain by its head. Length 0: the device doesn't
  // have the chain.
  std::vector<uint16_t> free_;
  std::vector<uint16_t> lengths_;
};

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_DRIVER_RING_H_
