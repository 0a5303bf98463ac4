// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_MONITOR_H_
#define GMEM_MONITOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem {

/// A number that a VM's provider knows of it, by the provider's own name: "vmid", say. There
/// may be several of one name.
struct VmDetail {
  std::string name;
  uint64_t value = 0;

  friend bool operator==(const VmDetail& a, const VmDetail& b) = default;
};

/// A VM of the host, as its operator sees it.
struct VmState {
  /// From 1; also in the fdinfo of the VM's descriptors, as "gmem-vm:".
  uint32_t id = 0;
  std::string provider;
  ReclaimPolicy policy = ReclaimPolicy::kAllow;
  int guest_address_bits = 0;
  /// Who made it, in the initial PID namespace. That process may have ended since.
  uint32_t pid = 0;
  std::string command;
  uint64_t bindings = 0;
  /// Pages of the host's page size.
  uint64_t lent_pages = 0;
  /// Guest accesses that were refused so far.
  uint64_t refused = 0;
  std::vector<VmDetail> details;
};

/// A binding, and whose it is.
struct VmBinding {
  uint32_t vm_id = 0;
  Binding binding;
};

/// A guestmem of the host.
struct GuestMemoryState {
  /// GuestMemory::id(); also in the fdinfo of its descriptors, as "gmem-mem:".
  uint64_t id = 0;
  ByteSize size;
  ByteSize page_size;
  /// Their sum is the size.
  PageCounts pages;
};

/// What happened. The numbers are the kernel's (enum gmem_event), but for kGap; a newer
/// kernel may have more.
enum class EventType : uint32_t {
  /// Messages got lost between the kernel and this socket, because nobody read it in
  /// time. Event::lost says how many; 0 if that isn't known yet: the next event settles
  /// it, by another kGap before it.
  kGap = 0,
  /// The kernel's own queue was full; Event::lost events are missing here.
  kOverrun = 1,
  kVmCreated = 2,
  kVmDestroyed = 3,
  kMemoryCreated = 4,
  kMemoryDestroyed = 5,
  /// A guest range was bound, or unbound.
  kMap = 6,
  kUnmap = 7,
  /// Pages went from the host to a guest.
  kLend = 8,
  /// A guest has used pages through a shared binding, the first to do so.
  kShare = 9,
  /// Lent pages came back.
  kReclaim = 10,
  /// They could not be taken back; who had them still does.
  kReclaimRefused = 11,
  /// A VM is gone and its provider kept pages.
  kLeak = 12,
  /// Memory broke.
  kHwPoison = 13,
  /// A guest access was refused.
  kRefused = 14,
};

/// Why pages were to come back. The numbers are the kernel's; it may have more.
enum class ReclaimCause : uint32_t {
  /// The host wanted to use them.
  kHost = 1,
  /// They were to be freed.
  kPunch = 2,
  /// Their binding went.
  kUnbind = 3,
  /// Their VM went.
  kTeardown = 4,
  /// They broke.
  kPoison = 5,
};

/// The access mode and the permissions of a binding that came or went.
struct EventAccess {
  MapMode mode = MapMode::kLend;
  bool read = false;
  bool write = false;
  bool execute = false;
};

/// One event. What doesn't belong to the type is empty or 0; Documentation/netlink.rst
/// has the table.
struct Event {
  /// Grows by one with each message that the kernel sends.
  uint64_t sequence = 0;
  EventType type = EventType::kGap;
  /// From 1; 0: not about a VM.
  uint32_t vm_id = 0;
  std::optional<uint64_t> memory_id = {};
  std::optional<GuestAddress> guest_address = {};
  std::optional<ByteOffset> offset = {};
  ByteSize size = {};
  /// kMap, kUnmap: the binding's. kRefused: read, write and execute say what the guest
  /// tried.
  std::optional<EventAccess> access = {};
  /// kReclaim, kReclaimRefused.
  std::optional<ReclaimCause> cause = {};
  /// kReclaimRefused: why, an errno; EACCES is the VM's policy.
  int error = 0;
  /// kRefused.
  std::optional<FaultReason> reason = {};
  /// kRefused, kReclaimRefused: how many equal ones this stands for.
  uint64_t count = 0;
  /// kOverrun, kGap.
  uint64_t lost = 0;
};

/// The names that the specification of the netlink family has: "vm-created",
/// "reclaim-refused"; "unknown" for what this library doesn't know. Thread-safe.
absl::string_view ToString(EventType type);
absl::string_view ToString(ReclaimCause cause);
absl::string_view ToString(FaultReason reason);
absl::string_view ToString(ReclaimPolicy policy);

/// All VMs, bindings and guestmems of a host, and what happens to them: the generic
/// netlink family "gmem" (Documentation/netlink.rst). For the host's operator: every call
/// needs CAP_SYS_ADMIN in the initial user namespace, else PermissionDenied (EPERM). A
/// VMM asks its own VM, by Vm::Query() and Vm::Faults(), without any rights.
///
/// A call that asks waits for the kernel's answer, which nobody can delay. What comes
/// from the kernel is checked all the same: DataLoss (EBADMSG) if it isn't understood.
///
/// To follow the state: Subscribe(), then ask, then apply the events that came
/// meanwhile. After kGap or kOverrun, ask again.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Open(), fd().\n
/// Needs exclusive access: Vms(), Bindings(), GuestMemories(), FindVm(), FindGuestMemory(),
/// Stats(), Subscribe(), ReadEvents(), moving, destroying. Several threads have a Monitor
/// each. fd() needs a Subscribe() that has returned.
class Monitor {
 public:
  /// NotFound (ENOENT) if the module isn't loaded or the calling process isn't in the
  /// host's initial network namespace.
  static absl::StatusOr<Monitor> Open();

  Monitor(Monitor&&) noexcept;
  Monitor& operator=(Monitor&&) noexcept;
  ~Monitor();

  /// What there is, in ascending order of numbers (bindings: of VMs, then of guest
  /// addresses). If things came or went during the answer, the request is made again, up to
  /// kMaxDumps times, so that what is returned existed at one time; then Unavailable
  /// (EAGAIN).
  static constexpr int kMaxDumps = 20;
  absl::StatusOr<std::vector<VmState>> Vms();
  absl::StatusOr<std::vector<VmBinding>> Bindings();
  /// Of one VM. NotFound (ENOENT) if there is none of that number.
  absl::StatusOr<std::vector<VmBinding>> Bindings(uint32_t vm_id);
  /// The kernel looks at every page of every guestmem for this.
  absl::StatusOr<std::vector<GuestMemoryState>> GuestMemories();

  /// NotFound (ENOENT) if there is none of that number.
  absl::StatusOr<VmState> FindVm(uint32_t vm_id);
  absl::StatusOr<GuestMemoryState> FindGuestMemory(uint64_t memory_id);

  absl::StatusOr<DeviceStats> Stats();

  /// Begins to receive events. Up to @p buffer wait in the socket until they are read (the
  /// kernel counts some 1 KiB for each). FailedPrecondition if that was done before.
  absl::Status Subscribe(ByteSize buffer = MiB(8));

  /// Readable when there is something for ReadEvents(); for epoll. -1 before Subscribe().
  int fd() const;

  /// What has come, in order, without waiting; empty if nothing has. At most some
  /// hundred at a time: what is left keeps fd() readable. Losses stand at their place
  /// among the events, as kGap and kOverrun. FailedPrecondition before Subscribe().
  ///
  /// FailedPrecondition (ESHUTDOWN), now and ever after, if the module was unloaded: no events come
  /// from one that is loaded anew. Open() another Monitor then.
  absl::StatusOr<std::vector<Event>> ReadEvents();

 private:
  struct State;
  explicit Monitor(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace gmem

#endif  // GMEM_MONITOR_H_
