// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_IOTLB_H_
#define GMEM_VHOST_IOTLB_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// The I/O virtual addresses that a device behind an IOMMU may use, with the user address and the
/// permissions of each. The back-end asks for entries (IotlbType::kMiss), and the front-end sends
/// them.
///
/// A front-end that sends entries without end can't use up memory: beyond kMaxEntries, the oldest
/// entry goes, and the back-end asks for it again (CVE-2026-74713).
///
/// Thread-compatible.
class Iotlb {
 public:
  static constexpr size_t kMaxEntries = 2048;

  struct Translation {
    uint64_t user_address = 0;
    /// Bytes from there on that have the same translation.
    uint64_t size = 0;
    /// kIotlbRead, kIotlbWrite.
    uint8_t permissions = 0;
  };

  /// Has no entries.
  Iotlb();
  /// The moved-from object may only be destroyed or assigned to.
  Iotlb(Iotlb&& other) noexcept;
  Iotlb& operator=(Iotlb&& other) noexcept;
  ~Iotlb();

  /// Applies kUpdate or kInvalidate. InvalidArgument (EINVAL) for other types, size 0, a range that
  /// wraps around, or unknown permissions; then nothing has changed.
  absl::Status Apply(const IotlbMessage& message);

  /// Nothing if there is no entry.
  std::optional<Translation> Find(uint64_t iova) const;

  size_t size() const;
  void Clear();

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_IOTLB_H_
