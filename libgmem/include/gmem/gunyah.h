// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_GUNYAH_H_
#define GMEM_GUNYAH_H_

#include <array>
#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

/// VMs of the Gunyah hypervisor (arm64): what a VMM does with them beside binding memory.
/// Their memory is that of any gmem::Vm.
///
/// The order: Device::CreateVm() with provider kProvider, Vm::Map(), a device tree written
/// to lent memory, SetDeviceTree(), AddVcpu(), SetBootRegister(), Start(), Vcpu::Run(). A VM
/// goes with its last descriptor; a vCPU holds its VM.
///
/// Calls on a VM of another provider are Unimplemented (ENOTTY).
namespace gmem::gunyah {

/// What VmOptions::provider and ProviderInfo::name call it.
inline constexpr char kProvider[] = "gunyah";

/// A register of the first vCPU.
class BootRegister {
 public:
  /// X0 to X30; the kernel refuses others.
  static constexpr BootRegister X(uint8_t index) { return {0, index}; }
  static constexpr BootRegister Pc() { return {1, 0}; }
  /// SP_EL0 and SP_EL1.
  static constexpr BootRegister Sp(uint8_t index) { return {2, index}; }

  /// As the kernel numbers it.
  constexpr uint32_t number() const { return number_; }

 private:
  constexpr BootRegister(uint32_t set, uint8_t index) : number_(set << 8 | index) {}

  uint32_t number_;
};

/// Says where in the guest the device tree is that Gunyah is to read: within one lent binding
/// when the VM is started. The start is a multiple of 4 KiB. Unavailable (EBUSY) after
/// Start(). Thread-safe.
absl::Status SetDeviceTree(const Vm& vm, GuestRange range);

/// Sets what the first vCPU starts with in a register. Unavailable (EBUSY) once the VM was
/// started. Thread-safe.
absl::Status SetBootRegister(const Vm& vm, BootRegister target, uint64_t value);

/// Sets the VM up and starts it. Once only: AlreadyExists (EALREADY) afterwards, even if it
/// failed. But after Unavailable (EBUSY: a page is pinned, say) or ResourceExhausted (ENOMEM)
/// try again: unless it is too late for that (EALREADY), it goes on from there. The host may
/// use lent memory until the start, and until the guest touches it; where Gunyah can't
/// provide memory on demand, all that is bound is lent here. Thread-safe.
absl::Status Start(const Vm& vm);

/// The guest touched an address at which no memory is bound. By default an access is taken
/// as done when the vCPU runs again; a read gets what Vcpu::SetReadData() said.
struct MmioExit {
  GuestAddress address;
  /// In bytes, at most 8.
  uint32_t size = 0;
  bool is_write = false;
  /// What is written, as it lies in memory.
  std::array<uint8_t, 8> data = {};
};

/// The guest touched memory that can't be provided. It does so again when the vCPU runs.
struct PageFaultExit {
  GuestAddress address;
  /// What kept it from being provided: an errno, as Vm::Populate() would fail with.
  int error = 0;
};

/// The VM doesn't run any more.
struct EndExit {
  enum class Status : uint32_t {
    /// Start() failed.
    kNotStarted = 1,
    /// It is off, or wants to be reset.
    kExited = 2,
    /// It ended, and nobody says why.
    kCrashed = 3,
  };
  /// Why it exited, as Gunyah numbers it.
  enum class Type : uint16_t {
    kVmExit = 0,
    kOff = 1,
    kReset = 2,
    kReset2 = 3,
    kWatchdog = 4,
    kSoftwareError = 5,
    kHardwareError = 6,
    kStopped = 7,
  };
  Status status = Status::kCrashed;
  /// Holds if the status is kExited.
  Type type = Type::kVmExit;
};

/// What a newer kernel has.
struct UnknownExit {
  uint32_t reason = 0;
};

using Exit = std::variant<MmioExit, PageFaultExit, EndExit, UnknownExit>;

/// For messages: "read of 4 bytes at 0x9000000", "the VM exited (off)". Thread-safe.
std::string ToString(const Exit& exit);

/// A vCPU. Its VM lives as long as it does. At the end of its life it is removed from the VM,
/// which can then have another one with its label.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: fd(), RequestExit().\n
/// Needs exclusive access: all else.
class Vcpu {
 public:
  /// Adds the vCPU with a label: those that Gunyah has for the VM, from 0. AlreadyExists
  /// (EEXIST) if the VM has it already.
  static absl::StatusOr<Vcpu> Add(const Vm& vm, uint32_t label);

  int fd() const { return fd_.get(); }

  /// Runs it until there is something to do for it. Unavailable (EINTR) if a signal came, or
  /// after RequestExit(): nothing is to be done. FailedPrecondition (ENODEV) while the VM
  /// isn't started, if it has no vCPU of that label, or if this one was removed.
  absl::StatusOr<Exit> Run();

  /// What the guest's read gets that Run() returned last: at most 8 bytes, those beyond are
  /// left out. FailedPrecondition if it returned something else.
  absl::Status SetReadData(absl::Span<const uint8_t> data);

  /// The guest's access that Run() returned last ends in an abort in the guest.
  /// FailedPrecondition if it was neither MmioExit nor PageFaultExit.
  absl::Status FailAccess();

  /// The guest makes the access again that Run() returned last, once memory is bound there,
  /// say. FailedPrecondition as above.
  absl::Status RetryAccess();

  /// Run() returns at once with EINTR, until this is taken back. Of a Run() under way only
  /// a signal gets its thread out, so send one after it, as with KVM's immediate_exit.
  void RequestExit(bool request = true);

 private:
  Vcpu(UniqueFd fd, Mapping run) : fd_(std::move(fd)), run_(std::move(run)) {}

  absl::Status SetResumeAction(uint8_t action);

  UniqueFd fd_;
  // The page that the kernel and we talk through.
  Mapping run_;
};

/// Removes the vCPU with a label from a VM: a Vcpu of it can't run any more. NotFound (ENOENT)
/// if there is none. Thread-safe.
absl::Status RemoveVcpu(const Vm& vm, uint32_t label);

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_H_
