// SPDX-License-Identifier: Apache-2.0
// The driver's half of virtio, for tests and benchmarks: memory as a guest has it, and
// split virtqueues in it. What a back-end at the other end does with them is real.
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

/// Guest memory: a file that a back-end can map, and what was handed out of it.
///
/// Thread-compatible.
class DriverMemory {
 public:
  /// @p size bytes, a multiple of the page size, which the guest sees at @p guest_address.
  static absl::StatusOr<std::unique_ptr<DriverMemory>> Create(size_t size,
                                                              uint64_t guest_address = uint64_t{1}
                                                                                       << 32);
  DriverMemory(const DriverMemory&) = delete;
  DriverMemory& operator=(const DriverMemory&) = delete;
  ~DriverMemory();

  int fd() const { return fd_.get(); }
  /// For the memory table, with fd().
  MemoryRegion region() const;
  absl::Span<uint8_t> bytes() const { return {base_, size_}; }

  /// @p size bytes, zeroed, at a multiple of @p alignment, a power of two. For good.
  /// ResourceExhausted (ENOMEM) if that many aren't left.
  absl::StatusOr<absl::Span<uint8_t>> Allocate(size_t size, size_t alignment = 64);

  /// Where the guest sees @p pointer, which must be from here.
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

/// A split virtqueue (virtio 1.3, 2.7), without indirect descriptors and event indices.
/// Add() to Wait() allocate nothing.
///
/// Thread-compatible.
class DriverRing {
 public:
  struct Buffer {
    /// From the ring's memory.
    absl::Span<uint8_t> bytes;
    /// Does the device write it? Such ones come last.
    bool is_writable = false;
  };
  /// A chain that the device has used.
  struct Used {
    /// What Add() returned.
    uint16_t head;
    /// How many bytes the device says that it wrote.
    uint32_t written;
  };

  /// @p size entries, a power of two. @p memory must outlive the ring.
  static absl::StatusOr<DriverRing> Create(DriverMemory& memory, uint16_t size);

  uint16_t size() const { return size_; }
  /// For SET_VRING_ADDR; user addresses.
  VringAddress address(uint32_t index) const;
  /// For SET_VRING_KICK and SET_VRING_CALL.
  int kick_fd() const { return kick_.get(); }
  int call_fd() const { return call_.get(); }
  /// How many chains the device has used: from where a new back-end goes on.
  uint16_t used_index() const;

  /// Makes a chain available. ResourceExhausted (ENOSPC) if there aren't as many
  /// descriptors free. The device needs Kick() to notice.
  absl::StatusOr<uint16_t> Add(absl::Span<const Buffer> chain);

  /// Tells the device, unless it said that it looks by itself.
  void Kick();

  /// A chain that was used, if there is one now; its descriptors are free again.
  /// DataLoss (EBADMSG) if the device returned what it never had.
  absl::StatusOr<std::optional<Used>> Next();

  /// Waits for one. DeadlineExceeded (ETIMEDOUT) if none comes.
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
  // flags, index; then elements
  uint16_t* used_ = nullptr;
  UniqueFd kick_;
  UniqueFd call_;
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  // Free descriptors, and how many a chain has, by its head; 0: not with the device.
  std::vector<uint16_t> free_;
  std::vector<uint16_t> lengths_;
};

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_DRIVER_RING_H_
