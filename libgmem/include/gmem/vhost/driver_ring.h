// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_DRIVER_RING_H_
#define GMEM_VHOST_DRIVER_RING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The driver's side of a split virtqueue (virtio 1.3, 2.7), for a program that uses a vhost-user
/// device itself, without a guest: a storage client, a benchmark, a test. Frontend::StartVring()
/// gives the virtqueue to the device:
///
///     auto ring = *DriverRing::Create(memory, bytes, 64);
///     frontend->StartVring(0, {.size = ring.size(), .address = ring.address(0),
///                              .kick_fd = ring.kick_fd(), .call_fd = ring.call_fd()});
///     ring.Add({{.bytes = request}, {.bytes = answer, .is_writable = true}});
///     ring.Kick();
///     auto used = ring.Wait(absl::Seconds(5));
///
/// Acknowledge VirtioFeature::kVersion1 and kIndirectDesc, and no other feature of rings.
///
/// The device is hostile, and can write to the ring and the buffers at any time. This class reads
/// the used index and each used entry once and checks them; whatever else it needs, it keeps in
/// memory of its own. A device that breaks a rule breaks the ring: all calls fail from then on with
/// the same DataLoss (EBADMSG). The content of a buffer is as untrusted: copy it before you check
/// it, and use the copy. A device that makes the memory's file shorter causes SIGBUS here: seal the
/// file (F_SEAL_SHRINK). Nothing here waits for the device, except Wait() for its timeout, and
/// Kick() on a system that gives no asynchronous I/O: see Backend.
///
/// Add(), Next() and Wait() allocate nothing, unless they fail.
///
/// Thread-compatible.
class DriverRing {
 public:
  /// Memory that the device has: one region of the front-end's memory table.
  struct Memory {
    /// Where this process has mapped it.
    absl::Span<uint8_t> bytes;
    /// Its addresses in the table.
    uint64_t guest_address = 0;
    uint64_t user_address = 0;
  };
  /// A piece of a chain.
  struct Buffer {
    /// Bytes of Memory::bytes.
    absl::Span<uint8_t> bytes;
    /// Does the device write the buffer? Such buffers come last in a chain.
    bool is_writable = false;
  };
  /// A chain that the device has used.
  struct Used {
    /// The number that Add() returned for the chain.
    uint16_t head = 0;
    /// The bytes that the device reports as written, at most those that are writable. It may not
    /// have written them.
    uint32_t written = 0;
  };

  /// The bytes that a ring of @p size entries needs.
  static size_t MemorySize(uint32_t size);

  /// Makes an empty ring of @p size entries in @p ring, a part of @p memory, which must outlive the
  /// object. InvalidArgument (EINVAL) if @p size isn't a power of two up to kMaxQueueSize, or
  /// @p ring is smaller than MemorySize(), isn't aligned to 16 bytes here and in the memory table,
  /// or isn't in @p memory.
  static absl::StatusOr<DriverRing> Create(const Memory& memory, absl::Span<uint8_t> ring,
                                           uint32_t size);
  DriverRing(DriverRing&& other) noexcept;
  DriverRing& operator=(DriverRing&& other) noexcept;
  ~DriverRing();

  /// Entries.
  uint32_t size() const;
  /// For VringSetup or SET_VRING_ADDR. @p index: the virtqueue's.
  VringAddress address(uint32_t index) const;
  /// Eventfds for VringSetup, or SET_VRING_KICK and SET_VRING_CALL.
  int kick_fd() const;
  int call_fd() const;
  /// The used index in the ring, which the device can write. A new back-end takes this index as its
  /// base, if chains were used in their order or there is an inflight buffer.
  uint16_t used_index() const;
  /// Chains that the device has.
  size_t in_flight() const;
  /// OK, or the rule that the device broke.
  const absl::Status& status() const;

  /// Makes a chain available. Call Kick() after one or more of these calls, so that the device
  /// notices. ResourceExhausted (ENOSPC) if too few descriptors are free: each buffer needs one.
  /// InvalidArgument (EINVAL) if the chain is empty, a readable buffer is behind a writable one, or
  /// a buffer isn't in the memory or has more than 32 bits of bytes.
  absl::StatusOr<uint16_t> Add(absl::Span<const Buffer> chain);

  /// Notifies the device, unless it has switched notifications off.
  void Kick();

  /// Returns a chain that the device has used, if there is one now, and frees its descriptors. The
  /// device may use chains in any order.
  absl::StatusOr<std::optional<Used>> Next();

  /// Waits for a used chain. DeadlineExceeded (ETIMEDOUT) if none comes.
  absl::StatusOr<Used> Wait(absl::Duration timeout);

 private:
  class Impl;

  explicit DriverRing(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DRIVER_RING_H_
