// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_GUEST_MEMORY_H_
#define GMEM_GUEST_MEMORY_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/mapping.h"
#include "gmem/memory_view.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem {

/// Numbers of pages, by who can access them. They count pages of the host's page size, even if the
/// memory has huge pages.
struct PageCounts {
  /// Pages that aren't allocated.
  uint64_t absent = 0;
  /// Pages that only the host can access.
  uint64_t host = 0;
  /// Pages that only a guest can access.
  uint64_t lent = 0;
  /// Pages that a guest has used through a shared binding; the host can access them, too.
  uint64_t shared = 0;
  /// Pages that nobody can access: their provider never gave them back. PunchHole() replaces them.
  uint64_t leaked = 0;

  friend bool operator==(const PageCounts& a, const PageCounts& b) = default;
};

/// The state of a page of guest memory: who can access it. A newer kernel may have more states.
enum class PageState : uint32_t {
  /// Nobody yet: the page isn't allocated.
  kAbsent = 1,
  /// Only the host.
  kHost = 2,
  /// Only a guest.
  kLent = 3,
  /// A guest that has used it through a shared binding, and the host.
  kShared = 4,
  /// Nobody: its provider never gave it back. PunchHole() replaces it.
  kLeaked = 5,
};

/// Pages in a row that have the same state.
struct PageRun {
  ByteRange range;
  PageState state = PageState::kAbsent;

  friend bool operator==(const PageRun& a, const PageRun& b) = default;
};

/// A *guestmem*: a file whose pages guests use as memory. Device::CreateGuestMemory() makes it; it
/// lives as long as a descriptor, a mapping, a binding or a view that isn't revoked refers to it.
///
/// Ranges lie within size(). They are multiples of page_size(); for Map(), Query() and Runs(), of
/// the host's page size. Otherwise a call fails with InvalidArgument (EINVAL), or with OutOfRange
/// (EOVERFLOW) if a sum wraps.
///
/// @par Thread safety
/// Thread-safe: Adopt(), IsGuestMemory(), fd(), size(), page_size(), id(), Map(), Allocate(),
/// PunchHole(), Query(), ForEachRun(), Runs(), Duplicate(), Reopen(), CreateView(), RevokeView().
/// The kernel orders calls on one range.\n
/// Needs exclusive access: Release(), moving, destroying.
class GuestMemory {
 public:
  /// Takes over a descriptor, for example one that came over a socket. InvalidArgument (EINVAL) if
  /// the descriptor isn't of a guestmem; Adopt() closes it then.
  static absl::StatusOr<GuestMemory> Adopt(UniqueFd fd);

  /// Is @p fd a descriptor of a guestmem? False if @p fd isn't open.
  static bool IsGuestMemory(int fd);

  int fd() const { return fd_.get(); }
  ByteSize size() const { return size_; }
  ByteSize page_size() const { return page_size_; }
  /// The number of this memory, the same for every descriptor of it. Binding::memory_id has the
  /// same number.
  uint64_t id() const { return id_; }

  /// Maps a range into this process, for as long as the mapping lives. When the host touches a lent
  /// page, the kernel takes the page back from the guest, as the VM's ReclaimPolicy says. Under
  /// ReclaimPolicy::kDeny, or if the kernel can't take the page back, the toucher gets SIGBUS.
  absl::StatusOr<Mapping> Map(ByteRange range,
                              MemoryAccess access = MemoryAccess::kReadWrite) const;
  /// Maps all of the memory.
  absl::StatusOr<Mapping> Map(MemoryAccess access = MemoryAccess::kReadWrite) const {
    return Map({ByteOffset(0), size_}, access);
  }

  /// Allocates every page of the range that is absent. Continues after signals. ResourceExhausted
  /// (ENOMEM) if the host hasn't enough memory; pages that are allocated by then stay.
  absl::Status Allocate(ByteRange range) const;

  /// Frees the range, which reads as zeroes afterwards. The kernel takes back lent pages first. If
  /// it can't take back one of them, it frees nothing: PermissionDenied (EACCES) if the VM's policy
  /// forbids it, Internal (EIO) if the provider refuses.
  absl::Status PunchHole(ByteRange range) const;

  /// Counts the pages of a range. Pages beyond the end of the memory count as absent.
  absl::StatusOr<PageCounts> Query(ByteRange range) const;
  absl::StatusOr<PageCounts> Query() const { return Query({ByteOffset(0), size_}); }

  /// Calls @p visit with the runs of a range, in ascending order and without gaps, until @p visit
  /// returns false. Each run is as long as it can be within the range. @p visit may call other
  /// methods. A page that changes its state meanwhile is in one run. Unimplemented (ENOTTY) if the
  /// module has no runs: load a gmem.ko of ABI 4 or later. Allocates no memory unless it fails.
  absl::Status ForEachRun(ByteRange range, absl::FunctionRef<bool(const PageRun&)> visit) const;

  /// Returns the runs of a range, or of all the memory.
  absl::StatusOr<std::vector<PageRun>> Runs(ByteRange range) const;
  absl::StatusOr<std::vector<PageRun>> Runs() const { return Runs({ByteOffset(0), size_}); }

  /// Returns another owner of the same memory.
  absl::StatusOr<GuestMemory> Duplicate() const;

  /// Returns another descriptor, close-on-exec. With MemoryAccess::kReadOnly it has no write
  /// access. Needs /proc. Both kinds have the whole of the memory, and a touch through them may
  /// take a page from a guest: hand a view to another process instead, see CreateView().
  absl::StatusOr<UniqueFd> Reopen(MemoryAccess access) const;

  /// Makes a descriptor of a range for a process that may map this range, and do nothing else with
  /// the memory: see MemoryView. PermissionDenied (EACCES) if this descriptor is read-only and the
  /// view isn't; Unimplemented (EOPNOTSUPP) for secret memory; Unimplemented (ENOTTY) if the module
  /// has no views: load a gmem.ko of ABI 2 or later.
  absl::StatusOr<MemoryView> CreateView(ByteRange range, const MemoryViewOptions& options) const;
  absl::StatusOr<MemoryView> CreateView(ByteRange range) const { return CreateView(range, {}); }

  /// Takes the memory away from all holders of a view, by MemoryView::id(): from now on each touch
  /// of it raises SIGBUS, and it can't be mapped. Returns how many pages of its range (of the
  /// host's page size) somebody holds pinned: a holder of the view that has pinned them can use
  /// them until the pins end. Needs a descriptor that is open for writing, even if the view is
  /// read-only: PermissionDenied (EACCES). NotFound (ENOENT) if the memory has no such view, or if
  /// the view is revoked already.
  absl::StatusOr<uint64_t> RevokeView(uint64_t view_id) const;

  /// Gives the descriptor to the caller, who must close it.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

 private:
  GuestMemory(UniqueFd fd, ByteSize size, ByteSize page_size, uint64_t id)
      : fd_(std::move(fd)), size_(size), page_size_(page_size), id_(id) {}

  absl::Status Fallocate(ByteRange range, int mode, absl::string_view verb) const;

  UniqueFd fd_;
  ByteSize size_;
  ByteSize page_size_;
  uint64_t id_;
};

}  // namespace gmem

#endif  // GMEM_GUEST_MEMORY_H_
