// SPDX-License-Identifier: MIT OR Apache-2.0
// Puts an unmodified arm64 Linux image and its initramfs into guest memory:
// Documentation/arch/arm64/booting.rst in the Linux source.
#ifndef GMEM_TOOLS_MINIVMM_ARM64_BOOT_H_
#define GMEM_TOOLS_MINIVMM_ARM64_BOOT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "gmem/types.h"

namespace minivmm {

// RAM begins at a multiple of this size, and so does the kernel.
constexpr uint64_t kArm64Alignment = 2 << 20;
// The room for the device tree. The kernel takes no larger one; a hypervisor may add to it.
constexpr uint64_t kTreeRoom = 64 << 10;

// The beginning of an image. All numbers are little-endian, as arm64 Linux is.
struct Arm64Header {
  uint32_t code[2];
  uint64_t text_offset, image_size, flags, reserved[3];
  uint32_t magic, pe_offset;
};
constexpr uint32_t kArm64Magic = 0x644d5241;  // "ARM\x64"

// Where everything is, as offsets in RAM.
struct Arm64Placement {
  gmem::ByteOffset entry;
  gmem::ByteRange tree, initramfs;
};

// @ram is guest memory that begins at a multiple of kArm64Alignment. Leaves room for the device
// tree, and doesn't write that. InvalidArgument if the kernel isn't an image for arm64;
// ResourceExhausted if @ram is too small. On an error, @ram is unchanged.
inline absl::StatusOr<Arm64Placement> LoadArm64Linux(absl::Span<uint8_t> ram,
                                                     absl::Span<const uint8_t> kernel,
                                                     absl::Span<const uint8_t> initramfs) {
  Arm64Header header = {};
  if (kernel.size() >= sizeof(header)) std::memcpy(&header, kernel.data(), sizeof(header));
  if (header.magic != kArm64Magic || header.text_offset >= kArm64Alignment) {
    return absl::InvalidArgumentError("the kernel isn't an uncompressed image for arm64");
  }
  // The kernel's own data lies behind the image. A size beyond all RAM must not make the sum wrap.
  const uint64_t size =
      std::min<uint64_t>(std::max<uint64_t>(header.image_size, kernel.size()), ram.size());
  const uint64_t tree =
      (header.text_offset + size + kArm64Alignment - 1) / kArm64Alignment * kArm64Alignment;
  const uint64_t needed = tree + kTreeRoom + initramfs.size();
  if (ram.size() < needed) {
    return absl::ResourceExhaustedError(absl::StrCat("this kernel and initramfs need ", needed,
                                                     " bytes of RAM or more, not ", ram.size()));
  }
  std::ranges::copy(kernel, ram.subspan(header.text_offset).begin());
  std::ranges::copy(initramfs, ram.subspan(tree + kTreeRoom).begin());
  return Arm64Placement{
      .entry = gmem::ByteOffset(header.text_offset),
      .tree = {gmem::ByteOffset(tree), gmem::ByteSize(kTreeRoom)},
      .initramfs = {gmem::ByteOffset(tree + kTreeRoom), gmem::ByteSize(initramfs.size())}};
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_ARM64_BOOT_H_
