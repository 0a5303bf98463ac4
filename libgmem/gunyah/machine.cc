// SPDX-License-Identifier: MIT OR Apache-2.0
// Addresses and interrupts are those of QEMU's machine "virt", which guests know.
#include "gmem/gunyah/machine.h"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gunyah/tree_editor.h"
#include "gunyah/vm_config.h"

namespace gmem::gunyah {
namespace {

using gunyah_internal::TreeEditor;
using internal::CheckError;

constexpr uint32_t kGicPhandle = 1;
constexpr uint32_t kPoolPhandle = 2;
constexpr ByteSize kPageSize = KiB(4);
constexpr GuestAddress kDistributor(0x8000000);
constexpr ByteSize kDistributorSize = KiB(64);
constexpr GuestAddress kRedistributors(0x80a0000);
constexpr ByteSize kRedistributorSize = KiB(128);
constexpr GuestRange kGic = {kDistributor,
                             kRedistributors + kMaxCpus* kRedistributorSize - kDistributor};

// The first two cells of an interrupt, and its trigger.
constexpr uint32_t kSpi = 0;
constexpr uint32_t kPpi = 1;
constexpr uint32_t kEdgeRising = 1;
constexpr uint32_t kLevelHigh = 4;
// The timers' interrupts: secure, non-secure, virtual, hypervisor.
constexpr uint32_t kTimers[] = {13, 14, 11, 10};

struct Device {
  std::string name;
  MmioDevice place;
};

std::vector<Device> DevicesOf(const Machine& machine) {
  std::vector<Device> devices;
  if (machine.uart) devices.push_back({"the UART", *machine.uart});
  for (size_t i = 0; i < machine.virtio.size(); i++) {
    devices.push_back({absl::StrCat("virtio device ", i), machine.virtio[i]});
  }
  return devices;
}

absl::Status CheckDevice(const Device& device) {
  const GuestRange& registers = device.place.registers;
  const std::string place =
      absl::StrCat(device.name, " has its registers at ", ToString(registers));
  if (!registers.IsValid() || registers.size == ByteSize(0) || registers.end() > kDevicesEnd) {
    return CheckError(EINVAL, absl::StrCat(place, ": Gunyah passes accesses to the VMM only below ",
                                           ToString(kDevicesEnd), "; choose an address there"));
  }
  if (registers.Overlaps(kGic)) {
    return CheckError(EINVAL, absl::StrCat(place, ", and the GIC has ", ToString(kGic),
                                           ": choose another address"));
  }
  if (device.place.interrupt >= gunyah_internal::kNrInterrupts) {
    return CheckError(EINVAL, absl::StrCat(device.name, " has interrupt ", device.place.interrupt,
                                           ": an SPI has a number from 0 to ",
                                           gunyah_internal::kNrInterrupts - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckDevices(const std::vector<Device>& devices) {
  for (size_t i = 0; i < devices.size(); i++) {
    GMEM_RETURN_IF_ERROR(CheckDevice(devices[i]));
    for (size_t j = 0; j < i; j++) {
      const std::string pair = absl::StrCat(devices[j].name, " and ", devices[i].name);
      if (devices[j].place.interrupt == devices[i].place.interrupt) {
        return CheckError(EINVAL,
                          absl::StrCat(pair, " both have interrupt ", devices[i].place.interrupt,
                                       ": give each one of its own"));
      }
      if (devices[j].place.registers.Overlaps(devices[i].place.registers)) {
        return CheckError(EINVAL, absl::StrCat(pair, " both have registers at ",
                                               ToString(devices[i].place.registers.start),
                                               ": choose other addresses"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMachine(const Machine& machine) {
  if (machine.nr_cpus < 1 || machine.nr_cpus > kMaxCpus) {
    return CheckError(
        EINVAL, absl::StrCat("Machine::nr_cpus is ", machine.nr_cpus, ": choose 1 to ", kMaxCpus));
  }
  if (machine.boot_args.find('\0') != std::string::npos) {
    return CheckError(EINVAL, "Machine::boot_args has a NUL: the kernel would stop there");
  }
  if (machine.initrd && (!machine.initrd->IsValid() || machine.initrd->size == ByteSize(0))) {
    return CheckError(EINVAL, absl::StrCat("Machine::initrd is ", ToString(*machine.initrd),
                                           ": give its range, or leave it out"));
  }
  const std::optional<GuestRange>& pool = machine.dma_pool;
  if (pool && (!pool->IsValid() || pool->size == ByteSize(0) || pool->start < kDevicesEnd ||
               !IsAligned(pool->start, kPageSize) || !IsAligned(pool->size, kPageSize))) {
    return CheckError(
        EINVAL, absl::StrCat("Machine::dma_pool is ", ToString(*pool), ": give whole pages of ",
                             ToString(kPageSize), " at ", ToString(kDevicesEnd), " or above"));
  }
  return CheckDevices(DevicesOf(machine));
}

std::string NameAt(absl::string_view name, GuestAddress address) {
  return absl::StrCat(name, "@", absl::Hex(address.value()));
}

void SetRange(TreeEditor& editor, int node, const GuestRange& range) {
  const uint64_t start = range.start.value(), size = range.size.value();
  editor.SetCells(node, "reg",
                  {static_cast<uint32_t>(start >> 32), static_cast<uint32_t>(start),
                   static_cast<uint32_t>(size >> 32), static_cast<uint32_t>(size)});
}

int AddDevice(TreeEditor& editor, const char* name, const char* compatible,
              const MmioDevice& device) {
  const int node = editor.AddNode(TreeEditor::kRoot, NameAt(name, device.registers.start));
  editor.SetCells(node, "interrupts", {kSpi, device.interrupt, kEdgeRising});
  SetRange(editor, node, device.registers);
  editor.SetText(node, "compatible", compatible);
  return node;
}

void AddVirtio(TreeEditor& editor, const MmioDevice& device, bool has_pool) {
  const int node = AddDevice(editor, "virtio_mmio", "virtio,mmio", device);
  if (has_pool) editor.SetU32(node, "memory-region", kPoolPhandle);
  editor.SetEmpty(node, "dma-coherent");
}

void AddPool(TreeEditor& editor, const GuestRange& pool) {
  const int parent = editor.AddNode(TreeEditor::kRoot, "reserved-memory");
  editor.SetEmpty(parent, "ranges");
  editor.SetCellCounts(parent);
  const int node = editor.AddNode(parent, NameAt("dma-pool", pool.start));
  editor.SetU32(node, "phandle", kPoolPhandle);
  SetRange(editor, node, pool);
  editor.SetText(node, "compatible", gunyah_internal::kDmaPool);
}

void AddUart(TreeEditor& editor, const MmioDevice& uart) {
  const int node = AddDevice(editor, "serial", "ns16550a", uart);
  editor.SetU32(node, "clock-frequency", 1843200);
  editor.SetU32(node, "reg-io-width", 1);
  editor.SetU32(node, "reg-shift", 0);
}

void AddCpus(TreeEditor& editor, uint32_t nr_cpus) {
  const int cpus = editor.AddNode(TreeEditor::kRoot, "cpus");
  editor.SetU32(cpus, "#address-cells", 1);
  editor.SetU32(cpus, "#size-cells", 0);
  // The last one first: a new node comes before its siblings, and the first CPU starts the guest.
  for (uint32_t cpu = nr_cpus; cpu-- > 0;) {
    const int node = editor.AddNode(cpus, absl::StrCat("cpu@", absl::Hex(cpu)));
    editor.SetText(node, "enable-method", "psci");
    editor.SetU32(node, "reg", cpu);
    editor.SetText(node, "compatible", "arm,armv8");
    editor.SetText(node, "device_type", "cpu");
  }
}

void AddPsci(TreeEditor& editor) {
  const int node = editor.AddNode(TreeEditor::kRoot, "psci");
  editor.SetText(node, "method", "hvc");
  editor.SetTexts(node, "compatible", {"arm,psci-1.0", "arm,psci-0.2"});
}

void AddTimer(TreeEditor& editor) {
  const int node = editor.AddNode(TreeEditor::kRoot, "timer");
  std::vector<uint32_t> interrupts;
  for (const uint32_t timer : kTimers) {
    interrupts.insert(interrupts.end(), {kPpi, timer, kLevelHigh});
  }
  editor.SetEmpty(node, "always-on");
  editor.SetCells(node, "interrupts", interrupts);
  editor.SetText(node, "compatible", "arm,armv8-timer");
}

void AddGic(TreeEditor& editor, uint32_t nr_cpus) {
  const int node = editor.AddNode(TreeEditor::kRoot, NameAt("intc", kDistributor));
  editor.SetU32(node, "phandle", kGicPhandle);
  editor.SetCells(node, "reg",
                  {0, static_cast<uint32_t>(kDistributor.value()), 0,
                   static_cast<uint32_t>(kDistributorSize.value()), 0,
                   static_cast<uint32_t>(kRedistributors.value()), 0,
                   static_cast<uint32_t>((nr_cpus * kRedistributorSize).value())});
  editor.SetEmpty(node, "interrupt-controller");
  editor.SetU32(node, "#interrupt-cells", 3);
  editor.SetText(node, "compatible", "arm,gic-v3");
}

void AddChosen(TreeEditor& editor, const Machine& machine) {
  const int node = editor.AddNode(TreeEditor::kRoot, "chosen");
  if (machine.initrd) {
    editor.SetU64(node, "linux,initrd-end", machine.initrd->end().value());
    editor.SetU64(node, "linux,initrd-start", machine.initrd->start.value());
  }
  if (machine.uart) {
    editor.SetText(node, "stdout-path",
                   absl::StrCat("/", NameAt("serial", machine.uart->registers.start)));
  }
  if (!machine.boot_args.empty()) editor.SetText(node, "bootargs", machine.boot_args);
}

void AddMachine(TreeEditor& editor, const Machine& machine) {
  editor.SetU32(TreeEditor::kRoot, "interrupt-parent", kGicPhandle);
  editor.SetCellCounts(TreeEditor::kRoot);
  editor.SetText(TreeEditor::kRoot, "compatible", "linux,dummy-virt");
  for (auto device = machine.virtio.rbegin(); device != machine.virtio.rend(); ++device) {
    AddVirtio(editor, *device, machine.dma_pool.has_value());
  }
  if (machine.uart) AddUart(editor, *machine.uart);
  if (machine.dma_pool) AddPool(editor, *machine.dma_pool);
  AddGic(editor, machine.nr_cpus);
  AddTimer(editor);
  AddPsci(editor);
  AddCpus(editor, machine.nr_cpus);
  AddChosen(editor, machine);
}

}  // namespace

absl::StatusOr<DeviceTree> MakeDeviceTree(const Machine& machine) {
  GMEM_RETURN_IF_ERROR(CheckMachine(machine));
  std::vector<Doorbell> doorbells;
  for (const Device& device : DevicesOf(machine)) {
    // The guest's driver of the device knows no doorbell, so the VMM clears it.
    doorbells.push_back({.label = device.place.interrupt,
                         .interrupt = device.place.interrupt,
                         .source_can_clear = true});
  }
  GMEM_ASSIGN_OR_RETURN(
      std::vector<uint8_t> bytes,
      gunyah_internal::EditTree({}, [&](TreeEditor& editor) { AddMachine(editor, machine); }));
  return DeviceTree(std::move(bytes), std::move(doorbells));
}

}  // namespace gmem::gunyah
