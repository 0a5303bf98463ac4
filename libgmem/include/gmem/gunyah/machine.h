// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_GUNYAH_MACHINE_H_
#define GMEM_GUNYAH_MACHINE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/types.h"

namespace gmem::gunyah {

/// A device that the VMM emulates: the guest's accesses to its registers are exits (MmioExit).
struct MmioDevice {
  /// Below kDevicesEnd: elsewhere, an access is no exit, but an abort in the guest.
  GuestRange registers = {};
  /// The number of an SPI of the GIC, from 0 to 987, edge-triggered. It is also the label of the
  /// doorbell by which the VMM raises it: an irqfd with GMEM_GUNYAH_IRQFD_LEVEL, since the guest's
  /// driver of the device doesn't clear a doorbell.
  uint32_t interrupt = 0;
};

/// The place that a UART usually has.
inline constexpr MmioDevice kUsualUart = {
    .registers = {.start = GuestAddress(0x9000000), .size = ByteSize(8)}, .interrupt = 1};

/// The place that the virtio-mmio device of a number below 32 usually has.
constexpr MmioDevice UsualVirtio(uint32_t number) {
  return {.registers = {.start = GuestAddress(0xa000000 + uint64_t{0x200} * number),
                        .size = ByteSize(0x200)},
          .interrupt = 16 + number};
}

/// The usual machine: CPUs that PSCI turns on, a GICv3, the CPUs' timers. These are Gunyah's own;
/// the VMM emulates the devices.
struct Machine {
  /// 1 to kMaxCpus.
  uint32_t nr_cpus = 1;
  /// The kernel's command line.
  std::string boot_args = {};
  /// A file system for the kernel, in the image's memory.
  std::optional<GuestRange> initrd = std::nullopt;
  /// A 16550A with byte-wide registers; the kernel's console.
  std::optional<MmioDevice> uart = std::nullopt;
  std::vector<MmioDevice> virtio = {};
  /// A restricted-dma-pool: the only memory that the virtio devices use. Linux copies what a device
  /// reads and writes to the pool and back, so all other memory can stay lent. Bind the pool as
  /// shared, by a call of its own. The devices must offer VIRTIO_F_ACCESS_PLATFORM, and the guest
  /// needs CONFIG_DMA_RESTRICTED_POOL. It doesn't work under the public Resource Manager, which
  /// makes a reserved node without a mapping for every shared parcel.
  std::optional<GuestRange> dma_pool = std::nullopt;
};

/// The most CPUs that a GICv3 reaches without affinity levels.
inline constexpr uint32_t kMaxCpus = 16;

/// Makes the device tree of a machine, without its memory: DeviceTree::AddVmConfig() adds that.
/// InvalidArgument (EINVAL), with the value and the remedy, for a number of CPUs or an interrupt
/// that is out of range, an interrupt that two devices have, registers that overlap others or the
/// GIC's (0x8000000 to 0x829ffff), or that don't lie below kDevicesEnd, or a pool that isn't whole
/// pages of 4 KiB above kDevicesEnd. Thread-safe.
absl::StatusOr<DeviceTree> MakeDeviceTree(const Machine& machine);

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_MACHINE_H_
