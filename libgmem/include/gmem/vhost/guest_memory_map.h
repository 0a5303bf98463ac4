// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_GUEST_MEMORY_MAP_H_
#define GMEM_VHOST_GUEST_MEMORY_MAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {

/// Guest memory that is contiguous in this process. The guest may change it at any time:
/// copy what is to be checked, then check the copy.
using GuestSpan = absl::Span<uint8_t>;

/// What is done to guest memory.
enum class GuestAccess : uint8_t { kRead = kIotlbRead, kWrite = kIotlbWrite };

/// The guest's memory as a back-end sees it: the regions that the front-end has sent,
/// each mapped here, and found by guest address, by user address (the front-end's own),
/// or by I/O virtual address.
///
/// A front-end that makes a file shorter than its region takes the back-end down with
/// SIGBUS, as with every shared mapping: it must be trusted not to.
///
/// Thread-compatible: const methods may run at the same time.
class GuestMemoryMap {
 public:
  /// Regions that stay mapped until DropRetired(): a front-end can't use up this process's
  /// mappings while a chain is in flight. A device that always has one, as for events, gets
  /// so many from tables that are replaced, e.g. 254 of 8 regions, before the next is
  /// refused: then its virtqueues must stop first.
  static constexpr size_t kMaxRetired = size_t{4} * kMaxMemorySlots;

  /// Puts regions in the place of all that are there (SET_MEM_TABLE); @p fds has one for
  /// each, and stays the caller's. On an error nothing has changed. Errors: as Add() and
  /// Remove().
  absl::Status Replace(absl::Span<const MemoryRegion> regions, const FdList& fds);

  /// Maps one more region (ADD_MEM_REG). InvalidArgument (EINVAL): it has size 0, wraps
  /// around, or is not all in its file. AlreadyExists (EEXIST): its guest addresses
  /// overlap with another's. ResourceExhausted (ENOSPC): kMaxMemorySlots are there.
  absl::Status Add(const MemoryRegion& region, int fd);

  /// Removes a region (REM_MEM_REG), told by guest address, user address and size.
  /// NotFound (ENOENT) if there is no such one; FailedPrecondition (EBUSY) if kMaxRetired
  /// that were removed are still mapped.
  absl::Status Remove(const MemoryRegion& region);

  void Clear();

  size_t size() const { return slots_.size(); }
  /// In the order of their guest addresses. The memory of a region in this process.
  const MemoryRegion& region(size_t i) const { return slots_[i]->region; }
  GuestSpan memory(size_t i) const { return slots_[i]->memory; }

  /// Chains that a device still works on point into memory: what is removed meanwhile
  /// stays mapped until this call.
  void DropRetired() { retired_.clear(); }

  /// From now on the addresses that Translate() takes are I/O virtual; null: the guest's.
  /// @p gives_guest: what they become are the guest's, with ProtocolFeature::kGpaAddresses,
  /// not the front-end's.
  void set_iotlb(const Iotlb* iotlb, bool gives_guest) {
    iotlb_ = iotlb;
    iotlb_gives_guest_ = gives_guest;
  }

  /// What came of a translation.
  enum class Result {
    kOk,
    /// The IOTLB has no entry, or one without the permission: ask the front-end.
    kMiss,
    /// Not all of the range is memory.
    kNotMemory,
    /// More pieces than the caller takes.
    kTooMany,
  };

  /// Appends the memory of @p size bytes from @p address on to @p spans, from
  /// @p nr_spans on, which is increased; more than one if the range crosses regions or
  /// pages of the IOTLB. What isn't kOk may have appended some; @p failed_at is where it
  /// ended. Allocates nothing.
  Result Translate(uint64_t address, uint64_t size, GuestAccess access, absl::Span<GuestSpan> spans,
                   size_t& nr_spans, uint64_t& failed_at) const;

  /// The memory at a user or a guest address; empty unless all of it is in one region.
  GuestSpan FromUser(uint64_t address, uint64_t size) const;
  GuestSpan FromGuest(uint64_t address, uint64_t size) const;

  /// The guest address of what Translate() gave, for the dirty log.
  std::optional<uint64_t> ToGuest(const uint8_t* memory) const;

  /// The first guest address beyond all regions.
  uint64_t guest_end() const;

 private:
  struct Slot {
    MemoryRegion region;
    Mapping mapping;
    // The region in it.
    GuestSpan memory;
  };
  using Slots = std::vector<std::unique_ptr<Slot>>;

  absl::Status CheckRetired(size_t nr_more) const;
  static absl::Status Insert(Slots& slots, const MemoryRegion& region, int fd);
  const Slot* FindGuest(uint64_t address) const;
  const Slot* FindUser(uint64_t address) const;

  // By guest address.
  Slots slots_;
  Slots retired_;
  const Iotlb* iotlb_ = nullptr;
  bool iotlb_gives_guest_ = false;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_GUEST_MEMORY_MAP_H_
