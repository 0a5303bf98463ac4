// SPDX-License-Identifier: Apache-2.0
// Puts an unmodified Linux bzImage and its initramfs into guest memory, as the
// kernel's 32-bit boot protocol wants it: Documentation/arch/x86/boot.rst in the
// Linux source.
#ifndef GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
#define GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace minivmm {

// How the CPU has to begin after LoadLinux(): at kEntry, with ESI = kBootParams, in
// protected mode without paging, and with flat 4 GiB segments from the table at kGdt.
constexpr uint32_t kGdt = 0x500, kBootParams = 0x7000, kEntry = 0x100000;
constexpr uint64_t kGdtEntries[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
constexpr uint16_t kCodeSelector = 0x10, kDataSelector = 0x18;

// @ram is guest memory from guest address 0; Linux is told that it has so much,
// and no more. InvalidArgument for what isn't a relocatable bzImage with the
// 32-bit entry or a command line that is too long; ResourceExhausted if @ram is
// too small for it, or too large. On an error, @ram is as it was.
absl::Status LoadLinux(absl::Span<uint8_t> ram, absl::Span<const uint8_t> kernel,
                       absl::Span<const uint8_t> initramfs, const std::string& command_line);

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
