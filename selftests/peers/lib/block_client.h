// SPDX-License-Identifier: MIT OR Apache-2.0
// The driver of a virtio block device (virtio 1.3, 5.2), for tests and benchmarks.
#ifndef GMEM_SELFTESTS_PEERS_LIB_BLOCK_CLIENT_H_
#define GMEM_SELFTESTS_PEERS_LIB_BLOCK_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/vhost/driver_ring.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {

/// A driver with one virtqueue, and up to depth() requests under way. Start(), Complete() and Do()
/// allocate nothing.
class BlockClient {
 public:
  static constexpr size_t kSectorSize = 512;
  static constexpr size_t kIdSize = 20;

  /// The status byte of a request; kNone is ours, before the device writes one.
  enum class Result : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2, kNone = 0xff };
  enum class Type : uint32_t { kRead = 0, kWrite = 1, kFlush = 4, kGetId = 8 };

  /// Makes a queue of @p queue_size entries in @p memory, for @p depth requests at a time of up to
  /// @p max_size bytes.
  static absl::StatusOr<BlockClient> Create(doubles::DriverMemory& memory, uint16_t queue_size,
                                            size_t depth, size_t max_size);

  DriverRing& ring() { return ring_; }
  size_t depth() const { return slots_.size(); }

  /// The data of a request: the caller fills it in before a write, and reads it after a read.
  absl::Span<uint8_t> data(size_t slot) const { return slots_[slot].data; }

  /// Makes a request with @p size bytes of data available to the device. Doesn't kick.
  absl::Status Start(size_t slot, Type type, uint64_t sector, size_t size);
  /// Waits until any request is complete. Returns its slot and its result.
  absl::StatusOr<std::pair<size_t, Result>> Complete();

  /// Runs one request in slot 0, and waits for its result.
  absl::StatusOr<Result> Do(Type type, uint64_t sector, size_t size);

 private:
  struct Header;
  struct Slot {
    Header* header;
    absl::Span<uint8_t> data;
    uint8_t* status;
  };

  explicit BlockClient(DriverRing ring) : ring_(std::move(ring)) {}

  DriverRing ring_;
  std::vector<Slot> slots_;
  // The slot of each chain, by the chain's head.
  std::vector<size_t> owners_;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_BLOCK_CLIENT_H_
