// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// A number that a provider reports about a VM under a name of its own, for example "vmid". Several
/// details of a VM may have the same name.
struct VmDetail {
  std::string name;
  uint64_t value = 0;

  friend bool operator==(const VmDetail& a, const VmDetail& b) = default;
};

/// A VM of the host, as the operator sees it.
struct VmState {
  /// Counts from 1. The fdinfo of the VM's descriptors has it, too, as "gmem-vm:".
  uint32_t id = 0;
  std::string provider;
  ReclaimPolicy policy = ReclaimPolicy::kAllow;
  int guest_address_bits = 0;
  /// The process that created the VM, numbered in the initial PID namespace. That process may have
  /// ended since.
  uint32_t pid = 0;
  std::string command;
  uint64_t bindings = 0;
  /// Counts pages of the host's page size.
  uint64_t lent_pages = 0;
  /// Guest accesses that were refused so far.
  uint64_t refused = 0;
  std::vector<VmDetail> details;
  /// The name that the VM's creator chose: printable ASCII. Several VMs may have the same. Empty if
  /// the VM has none, or if the module is older than ABI 2.
  std::string name = {};
  /// The kind of the VM's windows; never kBest. Nothing if the module is older than ABI 2, or if it
  /// is newer than this library and the VM has a new kind.
  std::optional<WindowKind> windows = {};
};

/// A binding and the VM that it belongs to.
struct VmBinding {
  uint32_t vm_id = 0;
  Binding binding;
};

/// A refused access of a VM's guest, or several equal ones in a row.
struct VmFault {
  uint32_t vm_id = 0;
  /// Fault::thread is numbered in the initial PID namespace.
  Fault fault;
};

/// A guestmem of the host.
struct GuestMemoryState {
  /// GuestMemory::id(). The fdinfo of its descriptors has it, too, as "gmem-mem:".
  uint64_t id = 0;
  ByteSize size;
  ByteSize page_size;
  /// The counts add up to the size.
  PageCounts pages;
  /// As VmState::name.
  std::string name = {};
};

/// A window descriptor of the host: see Vm::OpenWindow().
struct WindowState {
  /// WindowDescriptor::id().
  uint32_t id = 0;
  uint32_t vm_id = 0;
  GuestRange range = {};
  bool read_only = false;
  /// The holder may give memory back: WindowDescriptor::Discard().
  bool allow_discard = false;
  /// As VmState::name.
  std::string name = {};
  /// The process that created the descriptor, numbered in the initial PID namespace. That process
  /// may have ended since, or may have passed the descriptor on.
  uint32_t pid = 0;
};

/// A view of the host: see GuestMemory::CreateView().
struct ViewState {
  /// MemoryView::id().
  uint32_t id = 0;
  /// The guestmem that the view shows.
  uint64_t memory_id = 0;
  ByteRange range = {};
  bool read_only = false;
  /// GuestMemory::RevokeView() was called. The view exists as long as it has descriptors or
  /// mappings.
  bool revoked = false;
  /// As VmState::name.
  std::string name = {};
  /// As WindowState::pid.
  uint32_t pid = 0;
};

/// The kind of an event. The numbers are those of the kernel's enum gmem_event, except kGap. A
/// newer kernel may send further numbers.
enum class EventType : uint32_t {
  /// Messages got lost between the kernel and this socket, because the process didn't read them in
  /// time. Event::lost has their number, or 0 if it isn't known yet. In that case another kGap with
  /// the number precedes the next event.
  kGap = 0,
  /// The kernel's own queue was full: Event::lost events are missing at this place.
  kOverrun = 1,
  kVmCreated = 2,
  kVmDestroyed = 3,
  kMemoryCreated = 4,
  kMemoryDestroyed = 5,
  /// A guest range was bound or unbound.
  kMap = 6,
  kUnmap = 7,
  /// Pages went from the host to a guest.
  kLend = 8,
  /// A guest used pages through a shared binding, and no guest had done so before; or lent pages
  /// became shared.
  kShare = 9,
  /// Lent pages came back.
  kReclaim = 10,
  /// The kernel could not take pages back; the guest still has them.
  kReclaimRefused = 11,
  /// A VM is gone, and its provider kept pages.
  kLeak = 12,
  /// Memory broke.
  kHwPoison = 13,
  /// A guest access was refused.
  kRefused = 14,
  /// A view was created, or it is gone with its mappings.
  kViewCreated = 15,
  kViewDestroyed = 16,
  /// The owner of the memory has revoked a view.
  kViewRevoked = 17,
  /// A window descriptor was created, or it is gone with its mappings.
  kWindowCreated = 18,
  kWindowDestroyed = 19,
  /// A bound range has got another mode or other permissions: Vm::Change().
  kChange = 20,
};

/// Why the kernel takes pages back. The numbers are the kernel's; a newer kernel may have more.
enum class ReclaimCause : uint32_t {
  /// The host accessed them.
  kHost = 1,
  /// The host frees them.
  kPunch = 2,
  /// Their binding is removed.
  kUnbind = 3,
  /// Their VM ends.
  kTeardown = 4,
  /// They are broken.
  kPoison = 5,
  /// The guest gives them back: WindowDescriptor::Discard().
  kDiscard = 6,
  /// Their range changes in place: Vm::Change().
  kChange = 7,
};

/// The access mode and the permissions of a binding that was made, removed or changed.
struct EventAccess {
  MapMode mode = MapMode::kLend;
  bool read = false;
  bool write = false;
  bool execute = false;
};

/// One event. Members that don't apply to its type are empty or 0; Documentation/netlink.rst has
/// the table.
struct Event {
  /// The number of the message. The kernel's next message has the next number.
  uint64_t sequence = 0;
  EventType type = EventType::kGap;
  /// Counts from 1; 0 if the event isn't about a VM.
  uint32_t vm_id = 0;
  std::optional<uint64_t> memory_id = {};
  std::optional<GuestAddress> guest_address = {};
  std::optional<ByteOffset> offset = {};
  ByteSize size = {};
  /// kMap, kUnmap and kChange: the properties of the binding. kRefused: read, write and execute say
  /// what the guest tried.
  std::optional<EventAccess> access = {};
  /// For kReclaim and kReclaimRefused.
  std::optional<ReclaimCause> cause = {};
  /// For kReclaimRefused: the reason as an errno. EACCES means that the VM's policy forbids it.
  int error = 0;
  /// For kRefused.
  std::optional<FaultReason> reason = {};
  /// For kRefused and kReclaimRefused: how many equal events this one stands for.
  uint64_t count = 0;
  /// For kOverrun and kGap.
  uint64_t lost = 0;
  /// For kVmCreated, kMemoryCreated, kWindowCreated and kViewCreated: the name of the new object.
  std::string name = {};
  /// Each counts from 1; 0 if the event isn't about a window descriptor or a view.
  uint32_t window_id = 0;
  uint32_t view_id = 0;
  /// For kVmCreated: the kind of the VM's windows. Nothing if it has none, and from a module of
  /// ABI 1.
  std::optional<WindowKind> window_kind = {};
};

/// The names from the specification of the netlink family: "vm-created", "reclaim-refused".
/// "unknown" for values that this library doesn't know. Thread-safe.
absl::string_view ToString(EventType type);
absl::string_view ToString(ReclaimCause cause);
absl::string_view ToString(FaultReason reason);
absl::string_view ToString(ReclaimPolicy policy);
absl::string_view ToString(WindowKind kind);

/// Reports all VMs, bindings, guestmems, window descriptors and views of a host, and their events,
/// through the generic netlink family "gmem" (Documentation/netlink.rst). It serves the host's
/// operator: every call needs CAP_SYS_ADMIN in the initial user namespace, else PermissionDenied
/// (EPERM). A VMM asks about its own VM with Vm::Query() and Vm::Faults(), which need no
/// capability.
///
/// A query waits for the kernel's answer; no other process can delay that answer. The library
/// checks the kernel's messages: DataLoss (EBADMSG) if it can't understand one.
///
/// To follow the state, call Subscribe(), then query the state, then apply the events that came
/// meanwhile. After kGap or kOverrun, query again.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Open(), fd().\n
/// Needs exclusive access: Vms(), Bindings(), GuestMemories(), Faults(), Windows(), Views(),
/// FindVm(), FindGuestMemory(), FindWindow(), FindView(), Stats(), Subscribe(), ReadEvents(),
/// moving, destroying. Several threads need a Monitor each. Use fd() from another thread only after
/// Subscribe() has returned.
class Monitor {
 public:
  /// NotFound (ENOENT) if the module isn't loaded, or if the process isn't in the host's initial
  /// network namespace.
  static absl::StatusOr<Monitor> Open();

  Monitor(Monitor&&) noexcept;
  Monitor& operator=(Monitor&&) noexcept;
  ~Monitor();

  /// Return all objects of a kind in ascending order: bindings by VM and then guest address, other
  /// objects by number. All returned objects existed at the same time: if objects come or go
  /// during the answer, the call asks again, up to kMaxDumps times; then it fails with Unavailable
  /// (EAGAIN).
  static constexpr int kMaxDumps = 20;
  absl::StatusOr<std::vector<VmState>> Vms();
  absl::StatusOr<std::vector<VmBinding>> Bindings();
  /// Returns the bindings of one VM. NotFound (ENOENT) if no VM has that number.
  absl::StatusOr<std::vector<VmBinding>> Bindings(uint32_t vm_id);
  absl::StatusOr<std::vector<GuestMemoryState>> GuestMemories();
  /// Returns the last refused accesses of all VMs, by VM and then Fault::sequence: for each VM as
  /// many rows as Vm::Faults() has. A row that grows meanwhile may be there twice. Unlike
  /// Vm::Faults(), this takes nothing from the VMM, which waits for new rows with poll().
  /// Unimplemented (EOPNOTSUPP) if the module is too old.
  absl::StatusOr<std::vector<VmFault>> Faults();
  /// Returns those of one VM. NotFound (ENOENT) if no VM has that number.
  absl::StatusOr<std::vector<VmFault>> Faults(uint32_t vm_id);
  /// Unimplemented (EOPNOTSUPP) if the module is older than ABI 2: it has no such objects.
  absl::StatusOr<std::vector<WindowState>> Windows();
  absl::StatusOr<std::vector<ViewState>> Views();

  /// NotFound (ENOENT) if no object of the kind has that number.
  absl::StatusOr<VmState> FindVm(uint32_t vm_id);
  absl::StatusOr<GuestMemoryState> FindGuestMemory(uint64_t memory_id);
  /// Unimplemented (EOPNOTSUPP) if the module is older than ABI 2.
  absl::StatusOr<WindowState> FindWindow(uint32_t window_id);
  absl::StatusOr<ViewState> FindView(uint32_t view_id);

  absl::StatusOr<DeviceStats> Stats();

  /// Starts to receive events. The socket keeps up to @p buffer bytes of unread events (the kernel
  /// counts about 1 KiB for each). FailedPrecondition on the second call.
  absl::Status Subscribe(ByteSize buffer = MiB(8));

  /// For epoll: readable when ReadEvents() has something to return. -1 before Subscribe().
  int fd() const;

  /// Returns the events that have come, in order, without waiting; empty if none has. One call
  /// returns at most a few hundred events; fd() stays readable if more are left. kGap and kOverrun
  /// mark the places where events are missing. FailedPrecondition before Subscribe().
  ///
  /// FailedPrecondition (ESHUTDOWN), from this call and every later one, if the module was
  /// unloaded: this Monitor gets no events from a module that is loaded later. Open() a new Monitor
  /// then.
  absl::StatusOr<std::vector<Event>> ReadEvents();

 private:
  struct State;
  explicit Monitor(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace gmem

#endif  // GMEM_MONITOR_H_
