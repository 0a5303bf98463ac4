// SPDX-License-Identifier: MIT OR Apache-2.0
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

/// VMs of the Gunyah hypervisor (arm64): the calls that a VMM needs beside binding memory.
/// Memory is bound as for any gmem::Vm.
///
/// A VMM calls, in this order: Device::CreateVm() with provider kProvider, Vm::Map(), code that
/// writes a device tree to lent memory, SetDeviceTree(), Vcpu::Add(), SetBootRegister(), Start(),
/// Vcpu::Run(). The VM lives as long as one of its descriptors is open; a vCPU keeps its VM alive.
///
/// On a VM of another provider, these calls are Unimplemented (ENOTTY).
namespace gmem::gunyah {

/// The name of this provider in VmOptions::provider and ProviderInfo::name.
inline constexpr char kProvider[] = "gunyah";

/// A register of the first vCPU.
class BootRegister {
 public:
  /// X0 to X30; the kernel refuses higher numbers.
  static constexpr BootRegister X(uint8_t index) { return {0, index}; }
  static constexpr BootRegister Pc() { return {1, 0}; }
  /// SP_EL0 or SP_EL1.
  static constexpr BootRegister Sp(uint8_t index) { return {2, index}; }

  /// The number that the kernel gives to this register.
  constexpr uint32_t number() const { return number_; }

 private:
  constexpr BootRegister(uint32_t set, uint8_t index) : number_(set << 8 | index) {}

  uint32_t number_;
};

/// Sets where in guest memory Gunyah finds the device tree. When the VM starts, the range must lie
/// within one lent binding. Its start is a multiple of 4 KiB. Unavailable (EBUSY) after Start().
/// Thread-safe.
absl::Status SetDeviceTree(const Vm& vm, GuestRange range);

/// Sets the value that a register of the first vCPU starts with. Unavailable (EBUSY) after Start().
/// Thread-safe.
absl::Status SetBootRegister(const Vm& vm, BootRegister target, uint64_t value);

/// Sets the VM up and starts it. A VM can start only once: further calls are AlreadyExists
/// (EALREADY), even if the start failed. After Unavailable (EBUSY, for example because a page is
/// pinned) or ResourceExhausted (ENOMEM), call again: Start() continues where it stopped, unless it
/// returns EALREADY because that is no longer possible.
///
/// The host may use lent memory until the VM starts, and after that until the guest touches it. If
/// Gunyah can't provide memory on demand, Start() lends all bound memory. Thread-safe.
absl::Status Start(const Vm& vm);

/// The guest accessed an address at which no memory is bound. By default the access is complete
/// when the vCPU runs again, and a read gets the value that Vcpu::SetReadData() set.
struct MmioExit {
  GuestAddress address;
  /// In bytes, at most 8.
  uint32_t size = 0;
  bool is_write = false;
  /// The bytes that the guest writes, in memory order.
  std::array<uint8_t, 8> data = {};
};

/// The guest accessed memory that the kernel can't provide. The guest repeats the access when the
/// vCPU runs again.
struct PageFaultExit {
  GuestAddress address;
  /// The errno of the failure to provide the page; Vm::Populate() would fail with the same errno.
  int error = 0;
};

/// The VM has stopped running.
struct EndExit {
  enum class Status : uint32_t {
    /// Start() failed.
    kNotStarted = 1,
    /// The VM is off, or asks for a reset.
    kExited = 2,
    /// The VM ended without a known reason.
    kCrashed = 3,
  };
  /// Why the VM exited. The numbers are Gunyah's.
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
  /// Valid if the status is kExited.
  Type type = Type::kVmExit;
};

/// An exit that only a newer kernel knows.
struct UnknownExit {
  uint32_t reason = 0;
};

using Exit = std::variant<MmioExit, PageFaultExit, EndExit, UnknownExit>;

/// A text for messages: "read of 4 bytes at 0x9000000", "the VM exited (off)". Thread-safe.
std::string ToString(const Exit& exit);

/// A vCPU. It keeps its VM alive. Destroying the object removes the vCPU from the VM; the VM can
/// then get another vCPU with the same label.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: fd(), RequestExit().\n
/// Needs exclusive access: all other methods.
class Vcpu {
 public:
  /// Adds the vCPU with a label. Gunyah decides which labels the VM has, from 0 on. AlreadyExists
  /// (EEXIST) if the VM already has the vCPU.
  static absl::StatusOr<Vcpu> Add(const Vm& vm, uint32_t label);

  int fd() const { return fd_.get(); }

  /// Runs the vCPU until the VMM has to handle an exit. Unavailable (EINTR) after a signal or
  /// RequestExit(): there is nothing to handle. FailedPrecondition (ENODEV) before Start(), if the
  /// VM has no vCPU with that label, or if RemoveVcpu() removed this one.
  absl::StatusOr<Exit> Run();

  /// Sets the value of the guest's read that the last Run() returned: at most 8 bytes; the call
  /// ignores further bytes. FailedPrecondition if the last Run() returned something else.
  absl::Status SetReadData(absl::Span<const uint8_t> data);

  /// Makes the access that the last Run() returned end in an abort in the guest. FailedPrecondition
  /// if the last Run() returned neither MmioExit nor PageFaultExit.
  absl::Status FailAccess();

  /// Makes the guest repeat the access that the last Run() returned, for example after the VMM has
  /// bound memory there. FailedPrecondition as for FailAccess().
  absl::Status RetryAccess();

  /// Makes every Run() return EINTR at once, until RequestExit(false). A Run() that is under way
  /// returns only when its thread gets a signal: send one after this call, as for KVM's
  /// immediate_exit.
  void RequestExit(bool request = true);

 private:
  Vcpu(UniqueFd fd, Mapping run) : fd_(std::move(fd)), run_(std::move(run)) {}

  absl::Status SetResumeAction(uint8_t action);

  UniqueFd fd_;
  // The page that the kernel shares with this process.
  Mapping run_;
};

/// Removes the vCPU with a label from a VM; its Vcpu object can no longer run. NotFound (ENOENT) if
/// the VM has no such vCPU. Thread-safe.
absl::Status RemoveVcpu(const Vm& vm, uint32_t label);

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_H_
