// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VM_H_
#define GMEM_VM_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem {

/// What becomes of a page that the guest uses.
enum class MapMode {
  /// What the provider prefers: lend.
  kDefault,
  /// The host loses access to a page once the guest uses it.
  kLend,
  /// Host and guest both have access.
  kShare,
};

/// What a host access to a lent page does. A page that comes back because its binding
/// or its VM goes is zeroed under both kScrub and kDeny.
enum class ReclaimPolicy {
  /// The page comes back with its contents.
  kAllow,
  /// The page comes back zeroed.
  kScrub,
  /// The access fails and the page stays lent.
  kDeny,
};

/// What Vm::Map() is to bind. Use designated initialisers:
///
///     vm.Map(memory, {.guest_address = GuestAddress(0), .size = memory.size()});
///
/// All three numbers are multiples of GuestMemory::page_size().
struct MapOptions {
  GuestAddress guest_address = {};
  /// First byte in the guest memory.
  ByteOffset offset = {};
  /// Not 0.
  ByteSize size = {};
  MapMode mode = MapMode::kLend;
  /// What the guest may do; at least one. ProviderInfo::CanEnforce() tells which
  /// combinations work: on KVM (windows) the guest can't be kept from reading or
  /// executing.
  bool read = true;
  bool write = true;
  bool execute = true;
};

/// A guest range that is bound to guest memory.
struct Binding {
  GuestRange range;
  /// First byte in the guest memory.
  ByteOffset offset;
  /// GuestMemory::id().
  uint64_t memory_id = 0;
  /// kLend or kShare.
  MapMode mode = MapMode::kLend;
  bool read = false;
  bool write = false;
  bool execute = false;
};

/// Why a guest access was refused, and what a VMM can do about it. The numbers are the
/// kernel's; a newer kernel may have more.
enum class FaultReason : uint32_t {
  /// Nothing is bound there: bind it and run the vCPU again, or stop the guest.
  kUnbound = 1,
  /// Bound, but the window isn't up to date: Window::Refresh().
  kStale = 2,
  /// The binding doesn't allow the access.
  kPermission = 3,
  /// Somebody holds the page pinned (O_DIRECT, io_uring): run again later.
  kPinned = 4,
  /// No memory, or the memory cgroup is at its limit.
  kNoMemory = 5,
  /// The provider failed; the kernel log may say more.
  kProvider = 6,
  /// The page is broken: GuestMemory::PunchHole() replaces it.
  kHwPoison = 7,
  /// An earlier VM's provider kept the page: the same.
  kLeaked = 8,
};

/// A refused guest access, or a row of equal ones.
struct Fault {
  /// Number of the last one of the row. A VM counts them from 1.
  uint64_t sequence = 0;
  GuestAddress page;
  FaultReason reason = FaultReason::kUnbound;
  bool read = false;
  bool write = false;
  bool execute = false;
  /// Length of the row.
  uint64_t count = 0;
};

struct FaultReport {
  /// Ascending by sequence.
  std::vector<Fault> faults;
  /// What to pass to the next Vm::Faults().
  uint64_t last_sequence = 0;
  /// How many accesses the kernel had to forget before they were reported.
  uint64_t lost = 0;
};

/// An address space of a guest, into which guest memory is bound. Made by
/// Device::CreateVm(); lives as long as a descriptor or a Window refers to it, then
/// takes all its pages back.
///
/// Ranges are multiples of the host's page size and not empty, else InvalidArgument
/// (EINVAL); where one ends inside a binding of memory with huge pages, multiples of
/// that page size. A range beyond the address space is InvalidArgument, one that wraps
/// OutOfRange (EOVERFLOW). A call that fails has changed nothing, but for Reclaim() and
/// Populate(), which say how far they came.
///
/// Map(), Unmap(), UnmapExact(), Reclaim(), Populate() and ForEachBinding() allocate no
/// memory unless they fail.
///
/// @par Thread safety
/// Thread-safe: Adopt(), fd(), Duplicate(), Id(), GuestAddressBits(), Map(), Unmap(),
/// UnmapExact(), ForEachBinding(), Query(), Reclaim(), Populate(), Faults(), SetPolicy(). The
/// kernel orders changes to one VM.\n
/// Needs exclusive access: Release(), moving, destroying.
class Vm {
 public:
  /// Takes over a descriptor that came from elsewhere, a VMM that restarts, say.
  /// InvalidArgument if it is no VM; it is closed then.
  static absl::StatusOr<Vm> Adopt(UniqueFd fd);

  int fd() const { return fd_.get(); }

  /// Another owner of the same VM.
  absl::StatusOr<Vm> Duplicate() const;

  /// Gives the descriptor away.
  [[nodiscard]] UniqueFd Release() && { return std::move(fd_); }

  /// The number by which the host's operator knows this VM: VmState::id, Event::vm_id.
  /// Needs /proc.
  absl::StatusOr<uint32_t> Id() const;

  /// The width of the guest address space. Asks the kernel; 0 if it doesn't tell.
  int GuestAddressBits() const;

  /// Binds a range of guest memory. AlreadyExists (EEXIST) if the guest range overlaps a
  /// binding, or the memory is bound elsewhere (lent memory may be bound once, in all
  /// VMs); Unimplemented (EOPNOTSUPP) for permissions that the provider can't enforce;
  /// PermissionDenied (EACCES) for write permission through a read-only descriptor, and
  /// (EPERM) where only secret memory is lent, see Device::CreateSecretMemory(). A
  /// window needs Window::Refresh() to show it.
  absl::Status Map(const GuestMemory& memory, const MapOptions& options) const {
    return Map(memory.fd(), options);
  }
  /// The same for a descriptor that somebody else owns.
  absl::Status Map(int guest_memory_fd, const MapOptions& options) const;

  /// Unbinds a guest range, across bindings and holes; a binding that lies partly in it
  /// is trimmed or split. Pages that the guest holds are taken back first. Returns how
  /// many pages were unbound: 0 is no error. Internal (EIO) if a page can't be taken
  /// back.
  absl::StatusOr<uint64_t> Unmap(GuestRange range) const;

  /// Unbinds what lies within one binding that has just these properties, else NotFound
  /// (ENOENT): the call of the Gunyah series.
  absl::Status UnmapExact(const GuestMemory& memory, const MapOptions& options) const {
    return UnmapExact(memory.fd(), options);
  }
  absl::Status UnmapExact(int guest_memory_fd, const MapOptions& options) const;

  /// Calls @p visit for each binding that touches @p range, in ascending order, each
  /// whole, until it returns false. It may call other methods. What changes meanwhile is
  /// seen or not, and may overlap what was seen before it; what doesn't is seen once.
  absl::Status ForEachBinding(GuestRange range,
                              absl::FunctionRef<bool(const Binding&)> visit) const;

  /// The bindings that touch a range, or all.
  absl::StatusOr<std::vector<Binding>> Query(GuestRange range) const;
  absl::StatusOr<std::vector<Binding>> Query() const;

  /// Takes the lent pages of a range back now. The bindings stay: the guest's next access
  /// lends again. PermissionDenied (EACCES) under ReclaimPolicy::kDeny. @p nr_pages, if
  /// given, is how many came back, on failure, too.
  absl::Status Reclaim(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// Provides a range ahead of the guest's use: allocates each page and lends or shares
  /// it. NotFound (ENOENT) if part of the range is unbound; Unavailable (EBUSY) if a page
  /// is pinned. @p nr_pages, if given, is how many, from the first, the guest has now; on
  /// failure, too.
  absl::Status Populate(GuestRange range, uint64_t* nr_pages = nullptr) const;

  /// The refused accesses with a number above @p since. The kernel keeps the last 64
  /// rows.
  absl::StatusOr<FaultReport> Faults(uint64_t since = 0) const;

  /// Holds from now on, for what is lent already, too.
  absl::Status SetPolicy(ReclaimPolicy policy) const;

 private:
  friend class Device;
  explicit Vm(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace gmem

#endif  // GMEM_VM_H_
