// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_GUEST_MEMORY_MAP_H_
#define GMEM_VHOST_GUEST_MEMORY_MAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// Guest memory that is contiguous in this process. The guest may change it at any time: copy a
/// value before you check it, and use the copy.
using GuestSpan = absl::Span<uint8_t>;

/// An access to guest memory.
enum class GuestAccess : uint8_t { kRead = kIotlbRead, kWrite = kIotlbWrite };

/// The guest's memory as a back-end sees it: the regions that the front-end has sent, mapped into
/// this process. Finds memory by guest address, by user address (the front-end's own), and by I/O
/// virtual address.
///
/// As with every shared mapping, a front-end that makes a file shorter than its region causes a
/// SIGBUS in this process: see SurviveSigbus().
///
/// Thread-compatible: const methods may run at the same time.
class GuestMemoryMap {
 public:
  /// Removed regions that may stay mapped until DropRetired(), so that a front-end can't use up
  /// this process's mappings while chains are in flight.
  static constexpr size_t kMaxRetired = size_t{4} * kMaxMemorySlots;

  /// Has no regions.
  GuestMemoryMap();
  /// The moved-from object may only be destroyed or assigned to.
  GuestMemoryMap(GuestMemoryMap&& other) noexcept;
  GuestMemoryMap& operator=(GuestMemoryMap&& other) noexcept;
  ~GuestMemoryMap();

  /// Replaces all regions (SET_MEM_TABLE). Those that are there already, of the same regular file,
  /// stay where they are in this process. @p fds has one descriptor for each; the caller keeps
  /// them. On an error nothing has changed. Errors: as Add() and Remove().
  absl::Status Replace(absl::Span<const MemoryRegion> regions, const FdList& fds);

  /// Maps one more region (ADD_MEM_REG). InvalidArgument (EINVAL): it has size 0, wraps around, or
  /// isn't all in its file. AlreadyExists (EEXIST): its guest addresses overlap with those of
  /// another region. ResourceExhausted (ENOSPC): there are kMaxMemorySlots regions. Files of
  /// hugetlbfs need Linux 5.16: older kernels can't move their mappings (EINVAL).
  absl::Status Add(const MemoryRegion& region, int fd);

  /// Removes the region with this guest address, user address and size (REM_MEM_REG). NotFound
  /// (ENOENT) if there is none; FailedPrecondition (EBUSY) if kMaxRetired removed regions are still
  /// mapped.
  absl::Status Remove(const MemoryRegion& region);

  /// Removes all regions.
  void Clear();

  size_t size() const;
  /// The regions, and their memory in this process, in the order of their guest addresses.
  const MemoryRegion& region(size_t i) const;
  GuestSpan memory(size_t i) const;

  /// Keeps the region at @p memory, which Translate() gave, mapped while the result lives. The
  /// result is the region's memory, and must not outlive this map. Null if no region is there.
  std::shared_ptr<const GuestSpan> Hold(const uint8_t* memory) const;
  /// Appends the holds of all regions in @p memory to @p holds, one for each region.
  void HoldAll(absl::Span<const GuestSpan> memory,
               std::vector<std::shared_ptr<const GuestSpan>>& holds) const;
  /// Unmaps the removed regions that nobody holds.
  void DropRetired();
  /// The removed regions that are still mapped.
  size_t nr_retired() const;
  /// Has a region zero pages in the place of its file? See SurviveSigbus().
  bool is_broken() const;

  /// If @p iotlb isn't null, Translate() takes I/O virtual addresses, and @p iotlb, which must
  /// outlive its use here, translates them. @p gives_guest: @p iotlb translates to guest addresses
  /// (ProtocolFeature::kGpaAddresses) instead of user addresses.
  void set_iotlb(const Iotlb* iotlb, bool gives_guest);

  /// The result of a translation.
  enum class Result {
    kOk,
    /// The IOTLB has no entry, or one without the permission: ask the front-end.
    kMiss,
    /// A part of the range isn't memory.
    kNotMemory,
    /// A part of the range lay in a region that Remove() took away, and that has not been added
    /// again: front-ends remove a region that changes, and add it then.
    kRemoved,
    /// The range has more pieces than the caller takes.
    kTooMany,
  };

  /// Appends the memory of the @p size bytes from @p address on to @p spans, at index
  /// @p nr_spans, which grows by the number of pieces: more than one if the range crosses
  /// regions or pages of the IOTLB. A result other than kOk may have appended some pieces;
  /// then @p failed_at is the first address that is missing. Allocates nothing.
  Result Translate(uint64_t address, uint64_t size, GuestAccess access, absl::Span<GuestSpan> spans,
                   size_t& nr_spans, uint64_t& failed_at) const;

  /// The memory at a user or a guest address; empty unless all of it is there, in one region or in
  /// regions that continue each other, by guest and by user addresses. Such regions are contiguous
  /// in this process, too, whether they came together or one after the other. In rare cases they
  /// can't be: if one of them takes the place of a removed region that is still mapped, if their
  /// files have pages of different sizes, or if a guest has memory in many places far from each
  /// other.
  GuestSpan FromUser(uint64_t address, uint64_t size) const;
  GuestSpan FromGuest(uint64_t address, uint64_t size) const;

  /// The guest address of memory that Translate() gave, for the dirty log.
  std::optional<uint64_t> ToGuest(const uint8_t* memory) const;

  /// The first guest address behind all regions.
  uint64_t guest_end() const;

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_GUEST_MEMORY_MAP_H_
