// SPDX-License-Identifier: Apache-2.0
// VIRTIO shared memory regions (virtio 1.3, 2.10) of a vhost-user device: the back-end
// maps pieces of files into them while the guest runs.
#ifndef GMEM_VHOST_SHMEM_H_
#define GMEM_VHOST_SHMEM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

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
  /// Where the region lies in this process, for ShmemRegions::HostAddress(); null if it
  /// doesn't. Stays valid for as long as the mapper lives.
  uint8_t* host = nullptr;
};

/// Makes the region @p shmid of @p size bytes. Called once for each region, when the
/// back-end has told its sizes, inside of Frontend::Negotiate(): a callback, as those of the
/// FrontendHandler.
using ShmemFactory = absl::AnyInvocable<absl::StatusOr<ShmemRegion>(uint8_t shmid, ByteSize size)>;

/// A region of plain mappings in this process, without any VM: what NewHostRegion()
/// reserves can't be touched but where something is mapped (SIGSEGV). A VMM that emulates
/// the guest, or has no other way, uses this, as do tests.
inline constexpr size_t kDefaultMaxPieces = 16384;
absl::StatusOr<ShmemRegion> NewHostRegion(ByteSize size, size_t max_pieces = kDefaultMaxPieces);

/// All shared memory regions of one device. A Frontend has one, and does with it what
/// the back-end asks for; the VMM looks up what is mapped.
///
/// Thread-compatible.
class ShmemRegions {
 public:
  /// Mappings of one device at a time, in all regions. Each takes up to two of the process's,
  /// which has 65,530, usually.
  static constexpr size_t kMaxMappings = 16384;

  /// What is mapped somewhere in a region.
  struct Piece {
    ByteRange range;
    MemoryAccess access = MemoryAccess::kReadOnly;
    /// The first byte's address in this process; null if the region isn't in it.
    uint8_t* host = nullptr;
  };

  /// Without a factory there are no regions.
  explicit ShmemRegions(ShmemFactory factory = nullptr) : factory_(std::move(factory)) {}
  ShmemRegions(const ShmemRegions&) = delete;
  ShmemRegions& operator=(const ShmemRegions&) = delete;
  ~ShmemRegions() { UnmapAll().IgnoreError(); }

  /// Makes the regions that the back-end says there are. Their sizes are constant: a
  /// second time (after a reconnection) FailedPrecondition if anything differs. DataLoss
  /// (EBADMSG) for a configuration that is wrong in itself: a size that isn't a multiple of
  /// the page size, or nr_regions that doesn't count them. Or what the factory says.
  absl::Status Configure(const ShmemConfig& config);

  /// Maps what the back-end asks for, all or nothing. When it returns, the guest can use
  /// it. NotFound (ENOENT) no such region; InvalidArgument (EINVAL) a flag or padding
  /// that isn't known, alignment, size 0, beyond the region or the file; else as
  /// MemoryMapper::Map(). @p fd stays the caller's.
  absl::Status Map(const ShmemMapping& mapping, int fd);

  /// Unmaps one whole mapping. NotFound (ENOENT) if shm_offset and len don't name just one.
  absl::Status Unmap(const ShmemMapping& mapping);

  /// Unmaps all, in all regions. On an error, what could not be unmapped stays.
  absl::Status UnmapAll();

  /// The size of a region; 0 if there is none.
  ByteSize size(uint8_t shmid) const { return sizes_[shmid]; }
  size_t nr_mappings() const { return nr_mappings_; }

  /// What is mapped at @p offset of a region, or nothing.
  std::optional<Piece> Find(uint8_t shmid, ByteOffset offset) const;

  /// The address of @p offset in this process; null if nothing is mapped there, or the
  /// region isn't in this process.
  uint8_t* HostAddress(uint8_t shmid, ByteOffset offset) const;

 private:
  // By offset: size and access.
  using Pieces = std::map<uint64_t, std::pair<ByteSize, MemoryAccess>>;
  struct Region {
    ShmemRegion made;
    Pieces pieces;
  };

  absl::StatusOr<Region*> FindRegion(const ShmemMapping& mapping);
  void Remember(Region& region, uint64_t offset, ByteSize size, MemoryAccess access);
  // Returns the next piece.
  Pieces::iterator Forget(Region& region, Pieces::iterator piece);

  ShmemFactory factory_;
  bool is_configured_ = false;
  std::array<ByteSize, kMaxShmemRegions> sizes_ = {};
  std::map<uint8_t, Region> regions_;
  size_t nr_mappings_ = 0;
  // What Forget() has taken out, for Remember(): it allocates only while there are more
  // mappings than ever.
  std::vector<Pieces::node_type> spare_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_SHMEM_H_
