// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_GUNYAH_DEVICE_TREE_H_
#define GMEM_GUNYAH_DEVICE_TREE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/gunyah/layout.h"
#include "gmem/types.h"
#include "gmem/vm.h"

/// The device tree of a guest under Gunyah has two readers: the guest, and Gunyah's Resource
/// Manager, which finds there what the VM is and where its memory goes. Before the guest starts,
/// the Resource Manager also writes into the tree. If the tree breaks one of its rules, the start
/// fails, often with a number that doesn't say why. DeviceTree adds what the Resource Manager
/// reads, and checks the rules before the start.
namespace gmem::gunyah {

struct Machine;

/// A doorbell: one side rings it, and the other gets an interrupt.
struct Doorbell {
  /// The number by which host and guest name the doorbell: another one for each doorbell of the
  /// same direction.
  uint32_t label = 0;
  /// Which side rings: the host, or the guest.
  bool guest_rings = false;
  /// The guest's interrupt, where the host rings: the number of an SPI of the GIC, from 0 to 987.
  /// If empty, the Resource Manager chooses, and says in the tree what it has chosen.
  std::optional<uint32_t> interrupt = std::nullopt;
  /// The interrupt stays raised until the guest has cleared the doorbell. Otherwise each ring is an
  /// edge.
  bool level = false;
  /// The side that rings may also clear the doorbell.
  bool source_can_clear = false;
};

/// A description of memory that isn't RAM, for the guest.
struct Region {
  /// That of a parcel in Layout::others.
  GuestRange range = {};
  /// Texts for "compatible" of the nodes that the Resource Manager makes; at most 6.
  std::vector<std::string> compatible = {};
};

/// A description of a VM, beside its memory, for the Resource Manager.
struct VmConfig {
  /// Shown by the Resource Manager; 1 to 79 bytes.
  std::string image_name = "gmem";
  std::vector<Doorbell> doorbells = {};
  /// Shared parcels need no entry here; lent ones need one.
  std::vector<Region> regions = {};
};

/// Where all that a guest starts with is.
struct Placement {
  /// From Vm::Query().
  std::vector<Binding> bindings = {};
  /// The guest's first instruction.
  GuestAddress entry = {};
  /// The tree and its spare room: what SetDeviceTree() gets.
  GuestRange device_tree = {};
};

/// A flattened device tree. A plain value: it can be copied, and several threads may read one.
class DeviceTree {
 public:
  /// Takes a tree that somebody else has made. The bytes may be any: InvalidArgument (EINVAL)
  /// unless they are a well-formed tree of at most 2 MiB. Bytes behind the tree are ignored.
  static absl::StatusOr<DeviceTree> Parse(absl::Span<const uint8_t> bytes);

  /// The tree, without spare room. It lives as long as this object.
  absl::Span<const uint8_t> bytes() const { return bytes_; }

  /// Does the tree have the node that the Resource Manager reads, /gunyah-vm-config?
  bool HasVmConfig() const;

  /// The number of CPUs in /cpus. The vCPUs' labels for Vcpu::Add() are 0 to this number less 1, in
  /// the order of the nodes.
  uint32_t CpuCount() const;

  /// The room that the tree needs in guest memory: for itself, and for what the Resource Manager
  /// adds. It is a multiple of 4 KiB, and grows with the tree, not with the guest's RAM.
  ByteSize RoomNeeded() const;

  /// Adds what the Resource Manager reads: /gunyah-vm-config with the VM's name, the address of its
  /// image, its CPUs, a node for each parcel of @p layout.others and for each doorbell; and
  /// /memory. Doorbells of the machine (MakeDeviceTree()) are added by themselves. Changes nothing
  /// on failure:
  /// - AlreadyExists (EEXIST) if the tree has /gunyah-vm-config;
  /// - InvalidArgument (EINVAL) if a value of @p config breaks a rule, or a lent parcel isn't in
  ///   VmConfig::regions;
  /// - ResourceExhausted (ENOSPC) if the tree would be larger than 2 MiB.
  absl::Status AddVmConfig(const Layout& layout, const VmConfig& config);

  /// Checks the rules of the public Resource Manager for the tree and the memory of a VM, and that
  /// tree, entry and initrd don't overlap. InvalidArgument (EINVAL) names the first rule that is
  /// broken, with the value and the remedy. Changes nothing.
  absl::Status Check(const Placement& placement) const;

 private:
  friend absl::StatusOr<DeviceTree> MakeDeviceTree(const Machine& machine);

  explicit DeviceTree(std::vector<uint8_t> bytes, std::vector<Doorbell> doorbells = {})
      : bytes_(std::move(bytes)), doorbells_(std::move(doorbells)) {}

  std::vector<uint8_t> bytes_;
  // Of the machine's devices; AddVmConfig() adds them.
  std::vector<Doorbell> doorbells_;
};

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_DEVICE_TREE_H_
