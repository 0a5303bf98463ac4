// SPDX-License-Identifier: Apache-2.0
#include "linux_boot.h"

#include <asm/bootparam.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace minivmm {

namespace {

// Where things lie in guest memory. The first 640 KiB are free but for these.
constexpr uint32_t kGdt = 0x500;
constexpr uint32_t kBootParams = 0x7000;
constexpr uint32_t kCommandLine = 0x20000;
constexpr uint32_t kLowEnd = 0x9fc00;  // where a BIOS's data would begin
constexpr uint32_t kHighStart = 0x100000;
constexpr uint64_t kProtectedModeEnd = uint64_t{1} << 32;

// Offsets and values of the setup header.
constexpr size_t kSetupHeader = 0x1f1;
constexpr uint32_t kMagic = 0x53726448;       // "HdrS"
constexpr uint16_t kOldestProtocol = 0x020a;  // the first with init_size
constexpr uint8_t kUnregisteredLoader = 0xff;
constexpr uint32_t kSector = 512;
constexpr uint32_t kE820Ram = 1;
constexpr uint64_t kPage = 4096;

// Flat 4 GiB segments at the selectors that the protocol names.
constexpr uint16_t kCodeSelector = 0x10, kDataSelector = 0x18;
constexpr uint64_t kGdtEntries[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

absl::StatusOr<setup_header> ReadHeader(std::span<const uint8_t> kernel) {
  setup_header header = {};
  if (kernel.size() < kSetupHeader + sizeof(header)) {
    return absl::InvalidArgumentError("the kernel is too short for a bzImage");
  }
  std::memcpy(&header, kernel.data() + kSetupHeader, sizeof(header));
  if (header.header != kMagic || header.version < kOldestProtocol ||
      !(header.loadflags & LOADED_HIGH) || !header.relocatable_kernel) {
    return absl::InvalidArgumentError(
        "the kernel isn't a relocatable bzImage of boot protocol 2.10 or later");
  }
  return header;
}

void AddE820(boot_params* params, uint64_t begin, uint64_t end) {
  params->e820_table[params->e820_entries++] = {
      .addr = begin, .size = end - begin, .type = kE820Ram};
}

}  // namespace

absl::StatusOr<BootState> LoadLinux(std::span<uint8_t> ram, std::span<const uint8_t> kernel,
                                    std::span<const uint8_t> initramfs,
                                    const std::string& command_line) {
  absl::StatusOr<setup_header> header = ReadHeader(kernel);
  if (!header.ok()) return header.status();

  // A kernel from before the field says 0 and means 4.
  size_t setup_size = (header->setup_sects ? header->setup_sects + 1 : 5) * kSector;
  if (kernel.size() <= setup_size) {
    return absl::InvalidArgumentError("the kernel ends within its own setup code");
  }
  const uint32_t command_line_max = std::min(header->cmdline_size, kLowEnd - kCommandLine - 1);
  if (command_line.size() > command_line_max) {
    return absl::InvalidArgumentError(absl::StrCat("the command line has ", command_line.size(),
                                                   " bytes, the kernel takes ", command_line_max));
  }
  if (header->pref_address >= kProtectedModeEnd) {
    return absl::InvalidArgumentError(absl::StrCat("the kernel wants to be at 0x",
                                                   absl::Hex(header->pref_address),
                                                   ", which its 32-bit entry can't reach"));
  }
  std::span<const uint8_t> image = kernel.subspan(setup_size);
  // The image unpacks itself where it prefers to be; the initramfs must lie
  // beyond, so it goes to the end.
  uint64_t kernel_end =
      std::max<uint64_t>(kHighStart + image.size(), header->pref_address + header->init_size);
  if (ram.size() < kernel_end + initramfs.size() + kPage ||
      ram.size() > uint64_t{header->initrd_addr_max} + 1) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "this kernel and initramfs need between ", kernel_end + initramfs.size() + kPage, " and ",
        uint64_t{header->initrd_addr_max} + 1, " bytes of RAM, not ", ram.size()));
  }
  uint64_t initramfs_start = (ram.size() - initramfs.size()) & ~(kPage - 1);

  boot_params params = {};
  size_t header_size = 0x202 + kernel[0x201] - kSetupHeader;
  std::memcpy(&params.hdr, kernel.data() + kSetupHeader, std::min(header_size, sizeof(params.hdr)));
  params.hdr.type_of_loader = kUnregisteredLoader;
  params.hdr.cmd_line_ptr = kCommandLine;
  params.hdr.ramdisk_image = static_cast<uint32_t>(initramfs_start);
  params.hdr.ramdisk_size = static_cast<uint32_t>(initramfs.size());
  AddE820(&params, 0, kLowEnd);
  AddE820(&params, kHighStart, ram.size());

  std::memcpy(&ram[kGdt], kGdtEntries, sizeof(kGdtEntries));
  std::memcpy(&ram[kBootParams], &params, sizeof(params));
  std::memcpy(&ram[kCommandLine], command_line.c_str(), command_line.size() + 1);
  std::memcpy(&ram[kHighStart], image.data(), image.size());
  if (!initramfs.empty()) {
    std::memcpy(&ram[initramfs_start], initramfs.data(), initramfs.size());
  }
  return BootState{.entry = kHighStart,
                   .boot_params = kBootParams,
                   .gdt = kGdt,
                   .gdt_limit = sizeof(kGdtEntries) - 1,
                   .code_selector = kCodeSelector,
                   .data_selector = kDataSelector};
}

}  // namespace minivmm
