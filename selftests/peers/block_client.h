// SPDX-License-Identifier: Apache-2.0
// The driver of a virtio block device (virtio 1.3, 5.2), for tests and benchmarks.
#ifndef GMEM_SELFTESTS_VHOST_BLOCK_CLIENT_H_
#define GMEM_SELFTESTS_VHOST_BLOCK_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "vhost/testing/driver_ring.h"

namespace gmem::vhost::peers {

/// One virtqueue, with as many requests under way as it has room for. Start() to
/// Complete() allocate nothing.
class BlockClient {
 public:
  static constexpr size_t kSectorSize = 512;
  static constexpr size_t kIdSize = 20;

  /// What a device says about a request.
  enum class Result : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2, kNone = 0xff };
  enum class Type : uint32_t { kRead = 0, kWrite = 1, kFlush = 4, kGetId = 8 };

  /// A queue of @p queue_size entries in @p memory, for @p depth requests at a time of up
  /// to @p max_size bytes.
  static absl::StatusOr<BlockClient> Create(doubles::DriverMemory& memory, uint16_t queue_size,
                                            size_t depth, size_t max_size);

  doubles::DriverRing& ring() { return ring_; }
  size_t depth() const { return slots_.size(); }

  /// The data of a request: fill it in before a write, look at it after a read.
  absl::Span<uint8_t> data(size_t slot) const { return slots_[slot].data; }

  /// Makes a request available, without a kick; @p size is of the data.
  absl::Status Start(size_t slot, Type type, uint64_t sector, size_t size);
  /// Waits for any request: its slot, and what became of it.
  absl::StatusOr<std::pair<size_t, Result>> Complete();

  /// One request at a time, in slot 0.
  absl::StatusOr<Result> Do(Type type, uint64_t sector, size_t size);

 private:
  struct Header;
  struct Slot {
    Header* header;
    absl::Span<uint8_t> data;
    uint8_t* status;
  };

  explicit BlockClient(doubles::DriverRing ring) : ring_(std::move(ring)) {}

  doubles::DriverRing ring_;
  std::vector<Slot> slots_;
  // Which slot a chain belongs to, by its head.
  std::vector<size_t> owners_;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_VHOST_BLOCK_CLIENT_H_
