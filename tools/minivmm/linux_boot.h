// SPDX-License-Identifier: Apache-2.0
// Puts an unmodified Linux bzImage and its initramfs into guest memory, as the
// kernel's 32-bit boot protocol wants it: Documentation/arch/x86/boot.rst in the
// Linux source.
#ifndef GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
#define GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace minivmm {

// How the vCPU has to begin: protected mode, no paging, flat segments of 4 GiB
// from the table at @gdt, and ESI = @boot_params.
struct BootState {
  uint32_t entry;
  uint32_t boot_params;
  uint32_t gdt;
  uint16_t gdt_limit;
  uint16_t code_selector, data_selector;
};

// @ram is guest memory from guest address 0; Linux is told that it has so much,
// and no more. InvalidArgument for what isn't a relocatable bzImage with the
// 32-bit entry or a command line that is too long; ResourceExhausted if @ram is
// too small.
absl::StatusOr<BootState> LoadLinux(std::span<uint8_t> ram, std::span<const uint8_t> kernel,
                                    std::span<const uint8_t> initramfs,
                                    const std::string& command_line);

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
