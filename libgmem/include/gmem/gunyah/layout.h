// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_GUNYAH_LAYOUT_H_
#define GMEM_GUNYAH_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/vm.h"

/// How the memory of a VM gets to the public Gunyah's Resource Manager: in *parcels*, one for each
/// binding. The parcel with the guest's first instruction is the *image*: all that the guest starts
/// with, the device tree and all RAM of a Linux guest included.
///
/// The rules are those of the public Resource Manager of December 2023. A host that gives memory on
/// demand needs fewer.
namespace gmem::gunyah {

/// Guest memory ends here: the Resource Manager gives a guest 36 bits of addresses.
inline constexpr GuestAddress kMemoryEnd(uint64_t{1} << 36);
/// Below this address the guest has devices, and no memory.
inline constexpr GuestAddress kDevicesEnd(uint64_t{1} << 30);
/// The first address for memory. The page before it, the first above the devices, holds what the
/// Resource Manager tells the guest.
inline constexpr GuestAddress kMemoryStart(kDevicesEnd + KiB(4));
/// The Resource Manager rounds the address of the image up to a multiple of this size.
inline constexpr ByteSize kImageAlignment = MiB(2);

/// Memory that the Resource Manager gets, and gives to the guest, as a whole.
struct Parcel {
  GuestRange range = {};
  /// kLend or kShare.
  MapMode mode = MapMode::kLend;
  bool read = true;
  bool write = true;
  bool execute = true;
  /// The name by which the device tree says where the parcel goes: 0 for the image, for others
  /// their address divided by 4096.
  uint32_t label = 0;

  friend bool operator==(const Parcel& a, const Parcel& b) = default;
};

/// The parcels of a VM.
struct Layout {
  /// Lent, with all permissions.
  Parcel image = {};
  /// All others, in ascending order.
  std::vector<Parcel> others = {};
};

/// A text for messages: "shared memory 0x80000000..0x80000fff (read, write)".
std::string ToString(const Parcel& parcel);

/// Finds the parcels that these bindings, from Vm::Query(), make, and checks them. @p entry is the
/// address of the guest's first instruction. InvalidArgument (EINVAL), with the rule and the
/// remedy, if
/// - no memory is bound at @p entry;
/// - the image isn't lent with all permissions: the Resource Manager takes no image that somebody
///   else can access;
/// - the image doesn't begin at a multiple of kImageAlignment;
/// - memory lies below kMemoryStart or beyond kMemoryEnd.
///
/// @p bindings are in ascending order. Thread-safe.
absl::StatusOr<Layout> PlanLayout(absl::Span<const Binding> bindings, GuestAddress entry);

}  // namespace gmem::gunyah

#endif  // GMEM_GUNYAH_LAYOUT_H_
