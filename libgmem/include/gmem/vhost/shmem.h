// SPDX-License-Identifier: MIT OR Apache-2.0
// VIRTIO shared memory regions (virtio 1.3, 2.10) of a vhost-user device: the back-end
// maps pieces of files into them while the guest runs.
#ifndef GMEM_VHOST_SHMEM_H_
#define GMEM_VHOST_SHMEM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// A region, made by the VMM.
struct ShmemRegion {
  std::unique_ptr<MemoryMapper> mapper;
  /// The region's address in this process, for ShmemRegions::HostAddress(); null if the process has
  /// none. Valid for as long as the mapper lives.
  uint8_t* host = nullptr;
};

/// Makes the region @p shmid of @p size bytes. Frontend::Negotiate() calls it once for each region
/// that the back-end has, and never again for the same Frontend. It is a callback: see Frontend for
/// the calls that it must not make.
using ShmemFactory = absl::AnyInvocable<absl::StatusOr<ShmemRegion>(uint8_t shmid, ByteSize size)>;

/// Makes a region of plain mappings in this process, for tests and for a VMM that emulates the
/// guest or has no other way to map. A touch of a page that isn't mapped raises SIGSEGV. @p
/// max_pieces is the limit of pieces at a time, 1 to 1,048,576.
inline constexpr size_t kDefaultMaxPieces = 16384;
absl::StatusOr<ShmemRegion> NewHostRegion(ByteSize size, size_t max_pieces = kDefaultMaxPieces);

/// All shared memory regions of one device. A Frontend has one, and changes it as the back-end
/// asks; the VMM looks up the mappings. The regions' mappers have the list of the mappings.
///
/// Thread-compatible.
class ShmemRegions {
 public:
  /// Mappings of one device at a time, in all regions. Each takes up to two of the process's
  /// mappings, of which the kernel allows 65,530 by default.
  static constexpr size_t kMaxMappings = 16384;

  /// A mapping in a region.
  struct Piece {
    ByteRange range;
    MemoryAccess access = MemoryAccess::kReadOnly;
    /// The first byte's address in this process; null if the region has none.
    uint8_t* host = nullptr;
  };

  /// A null factory makes no regions: Configure() must not be called.
  explicit ShmemRegions(ShmemFactory factory = nullptr);
  ShmemRegions(const ShmemRegions&) = delete;
  ShmemRegions& operator=(const ShmemRegions&) = delete;
  /// Unmaps everything.
  ~ShmemRegions();

  /// Makes the regions that the back-end has. Their sizes are fixed: FailedPrecondition if a second
  /// call (after a reconnection) has other sizes. DataLoss (EBADMSG) for a configuration that
  /// contradicts itself: a size that isn't a multiple of the page size, or another number of sizes
  /// than nr_regions. Or the factory's error.
  absl::Status Configure(const ShmemConfig& config);

  /// Carries out SHMEM_MAP, all or nothing. When it returns, the guest can use the mapping.
  /// NotFound (ENOENT) no such region; InvalidArgument (EINVAL) an unknown flag, non-zero padding,
  /// alignment, size 0, beyond the region or the file; ResourceExhausted (ENOSPC) beyond
  /// kMaxMappings; else as MemoryMapper::Map(). The caller keeps @p fd.
  absl::Status Map(const ShmemMapping& mapping, int fd);

  /// Carries out SHMEM_UNMAP. NotFound (ENOENT) if shm_offset and len don't name one whole mapping.
  absl::Status Unmap(const ShmemMapping& mapping);

  /// Unmaps everything, in all regions. On an error, mappings that could not be unmapped stay, the
  /// rest is gone.
  absl::Status UnmapAll();

  /// The size of a region; 0 if there is none.
  ByteSize size(uint8_t shmid) const;
  /// How many mappings there are, in all regions.
  size_t nr_mappings() const;

  /// The mapping at @p offset of a region, or nothing.
  std::optional<Piece> Find(uint8_t shmid, ByteOffset offset) const;

  /// The address of @p offset in this process; null if nothing is mapped there, or if the region
  /// has no address in this process.
  uint8_t* HostAddress(uint8_t shmid, ByteOffset offset) const;

 private:
  struct Impl;

  const std::unique_ptr<Impl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SHMEM_H_
