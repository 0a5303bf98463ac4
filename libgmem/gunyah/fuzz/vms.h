// SPDX-License-Identifier: MIT OR Apache-2.0
// The VM whose device tree the fuzzer makes up. Not installed.
#ifndef GMEM_GUNYAH_FUZZ_VMS_H_
#define GMEM_GUNYAH_FUZZ_VMS_H_

#include <vector>

#include "gmem/types.h"
#include "gmem/vm.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah::doubles {

inline constexpr GuestAddress kRam(0x80000000);
inline constexpr ByteSize kRamSize = MiB(64);

inline Binding Bind(GuestAddress start, ByteSize size, MapMode mode) {
  return {.range = {start, size},
          .offset = ByteOffset(0),
          .memory_id = 1,
          .mode = mode,
          .read = true,
          .write = true,
          .execute = mode == MapMode::kLend};
}

// The RAM, and two shared regions.
inline std::vector<Binding> Bindings() {
  return {Bind(kRam, kRamSize, MapMode::kLend), Bind(kRam + MiB(128), KiB(8), MapMode::kShare),
          Bind(kRam + MiB(130), KiB(4), MapMode::kShare)};
}

}  // namespace gmem::gunyah::doubles
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_FUZZ_VMS_H_
