// SPDX-License-Identifier: MIT OR Apache-2.0
// Puts an unmodified Linux bzImage and its initramfs into guest memory, by the kernel's 32-bit boot
// protocol: Documentation/arch/x86/boot.rst in the Linux source.
#ifndef GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
#define GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_

#include <asm/bootparam.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace minivmm {

// After LoadLinux(), the CPU must begin at kEntry, with ESI = kBootParams, in protected mode
// without paging, and with flat 4 GiB segments from the table at kGdt.
constexpr uint32_t kGdt = 0x500, kBootParams = 0x7000, kEntry = 0x100000;
constexpr uint64_t kGdtEntries[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
constexpr uint16_t kCodeSelector = 0x10, kDataSelector = 0x18;

// The places of the rest in guest memory. All other memory of the first 640 KiB is free.
constexpr uint32_t kCommandLineStart = 0x20000;
constexpr uint32_t kLowEnd = 0x9fc00;  // a BIOS would have its data from here on

// Offsets and values of the setup header.
constexpr size_t kSetupHeader = 0x1f1, kHeaderLength = 0x201, kHeaderLengthFrom = 0x202;
constexpr uint32_t kMagic = 0x53726448;       // "HdrS"
constexpr uint16_t kOldestProtocol = 0x020a;  // the first with init_size
constexpr uint8_t kUnregisteredLoader = 0xff;
constexpr uint32_t kSector = 512, kE820Ram = 1, kPage = 4096;

// @ram is guest memory from guest address 0, and all the memory that Linux learns of.
// InvalidArgument if the kernel isn't a relocatable bzImage with the 32-bit entry, or if the
// command line is too long; ResourceExhausted if @ram is too small for them, or too large. On an
// error, @ram is unchanged.
inline absl::Status LoadLinux(absl::Span<uint8_t> ram, absl::Span<const uint8_t> kernel,
                              absl::Span<const uint8_t> initramfs,
                              const std::string& command_line) {
  setup_header header = {};
  if (kernel.size() >= kSetupHeader + sizeof(header)) {
    std::memcpy(&header, &kernel[kSetupHeader], sizeof(header));
  }
  const size_t setup_size = (header.setup_sects + 1) * kSector;
  if (header.header != kMagic || header.version < kOldestProtocol ||
      !(header.loadflags & LOADED_HIGH) || !header.relocatable_kernel ||
      kernel.size() <= setup_size) {
    return absl::InvalidArgumentError(
        "the kernel isn't a whole, relocatable bzImage of boot protocol 2.10 or later");
  }
  const uint32_t command_line_max = std::min(header.cmdline_size, kLowEnd - kCommandLineStart - 1);
  if (command_line.size() > command_line_max) {
    return absl::InvalidArgumentError(absl::StrCat("the command line has ", command_line.size(),
                                                   " bytes, the kernel takes ", command_line_max));
  }
  // The image unpacks itself at its preferred address. The initramfs must lie behind that, so it
  // goes to the end of RAM. A preferred address beyond all RAM must not make the sum wrap.
  const absl::Span<const uint8_t> image = kernel.subspan(setup_size);
  const uint64_t preferred = std::min<uint64_t>(header.pref_address, ram.size());
  const uint64_t needed = std::max<uint64_t>(kEntry + image.size(), preferred + header.init_size) +
                          initramfs.size() + kPage;
  const uint64_t limit = uint64_t{header.initrd_addr_max} + 1;
  if (ram.size() < needed || ram.size() > limit) {
    return absl::ResourceExhaustedError(absl::StrCat("this kernel and initramfs need between ",
                                                     needed, " and ", limit, " bytes of RAM, not ",
                                                     ram.size()));
  }
  const uint64_t initramfs_start = (ram.size() - initramfs.size()) & ~uint64_t{kPage - 1};

  boot_params params = {};
  const size_t header_size = kHeaderLengthFrom + kernel[kHeaderLength] - kSetupHeader;
  std::memcpy(&params.hdr, &header, std::min(header_size, sizeof(header)));
  params.hdr.type_of_loader = kUnregisteredLoader;
  params.hdr.cmd_line_ptr = kCommandLineStart;
  params.hdr.ramdisk_image = static_cast<uint32_t>(initramfs_start);
  params.hdr.ramdisk_size = static_cast<uint32_t>(initramfs.size());
  params.e820_table[0] = {.addr = 0, .size = kLowEnd, .type = kE820Ram};
  params.e820_table[1] = {.addr = kEntry, .size = ram.size() - kEntry, .type = kE820Ram};
  params.e820_entries = 2;

  std::memcpy(&ram[kGdt], kGdtEntries, sizeof(kGdtEntries));
  std::memcpy(&ram[kBootParams], &params, sizeof(params));
  std::memcpy(&ram[kCommandLineStart], command_line.c_str(), command_line.size() + 1);
  std::ranges::copy(image, ram.subspan(kEntry).begin());
  std::ranges::copy(initramfs, ram.subspan(initramfs_start).begin());
  return absl::OkStatus();
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_LINUX_BOOT_H_
