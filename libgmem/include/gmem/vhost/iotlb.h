// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_IOTLB_H_
#define GMEM_VHOST_IOTLB_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "absl/status/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// What a device behind an IOMMU may reach: I/O virtual addresses, and the user address
/// and the permissions of each. The front-end fills it, when asked (IotlbType::kMiss).
/// Bounded: who fills it without end gets the oldest entries dropped, and is asked again
/// (CVE-2026-74713).
///
/// Thread-compatible.
class Iotlb {
 public:
  static constexpr size_t kMaxEntries = 2048;

  struct Translation {
    uint64_t user_address = 0;
    /// Bytes from there on that are translated alike.
    uint64_t size = 0;
    /// kIotlbRead, kIotlbWrite.
    uint8_t permissions = 0;
  };

  /// kUpdate and kInvalidate. InvalidArgument (EINVAL) for other types, size 0, a range
  /// that wraps around, or permissions that don't exist; then nothing has changed.
  absl::Status Apply(const IotlbMessage& message);

  /// Nothing if nobody has told.
  std::optional<Translation> Find(uint64_t iova) const;

  size_t size() const { return entries_.size(); }
  void Clear() { entries_.clear(); }

 private:
  struct Entry {
    // Inclusive: the range may end where 64 bits do.
    uint64_t last = 0;
    uint64_t user_address = 0;
    uint8_t permissions = 0;
    uint64_t age = 0;
  };

  void Invalidate(uint64_t first, uint64_t last);

  // By their first address; they don't overlap.
  std::map<uint64_t, Entry> entries_;
  uint64_t next_age_ = 0;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_IOTLB_H_
