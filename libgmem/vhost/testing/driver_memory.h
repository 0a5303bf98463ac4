// SPDX-License-Identifier: MIT OR Apache-2.0
// Guest memory for tests and benchmarks that play the driver: DriverRings lie in it. The back-end
// at the other end does real work.
#ifndef GMEM_VHOST_TESTING_DRIVER_MEMORY_H_
#define GMEM_VHOST_TESTING_DRIVER_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/driver_ring.h"
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
  DriverRing::Memory ring_memory() const {
    return {.bytes = bytes(),
            .guest_address = guest_address_,
            .user_address = reinterpret_cast<uint64_t>(base_)};
  }

  /// Allocates @p size bytes, zeroed, at a multiple of @p alignment, which is a power of two. They
  /// can't be freed. ResourceExhausted (ENOMEM) if too few bytes are left.
  absl::StatusOr<absl::Span<uint8_t>> Allocate(size_t size, size_t alignment = 64);

 private:
  DriverMemory(UniqueFd fd, uint8_t* base, size_t size, uint64_t guest_address)
      : fd_(std::move(fd)), base_(base), size_(size), guest_address_(guest_address) {}

  UniqueFd fd_;
  uint8_t* base_;
  size_t size_;
  size_t used_ = 0;
  uint64_t guest_address_;
};

/// A ring of @p size entries in @p memory, which must outlive it.
absl::StatusOr<DriverRing> NewRing(DriverMemory& memory, uint32_t size);

/// Makes a chain available whose head isn't in the ring, and kicks. Afterwards @p ring is good for
/// nothing.
void CorruptRing(const DriverMemory& memory, DriverRing& ring);

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_DRIVER_MEMORY_H_
