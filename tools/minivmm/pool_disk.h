// SPDX-License-Identifier: MIT OR Apache-2.0
// A disk of a guest under Gunyah, that reaches the guest through a pool of shared memory alone.
#ifndef GMEM_TOOLS_MINIVMM_POOL_DISK_H_
#define GMEM_TOOLS_MINIVMM_POOL_DISK_H_

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "block_image.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vm.h"
#include "gunyah_function.h"
#include "or_die.h"
#include "virtio_disk.h"
#include "virtio_mmio.h"

namespace minivmm {

class PoolDisk {
 public:
  static constexpr gmem::ByteSize kSize = gmem::MiB(1);

  // Shares the memory of @pool with the guest, before the guest starts, and makes an empty disk at
  // @place.
  PoolDisk(const gmem::Device& device, const gmem::Vm& vm, gmem::GuestRange pool,
           gmem::gunyah::MmioDevice place)
      : place_(place),
        memory_(OrDie(device.CreateGuestMemory(pool.size))),
        file_(OrDie(memfd_create("disk", MFD_CLOEXEC), "memfd_create")),
        disk_(OpenDisk(file_.get())),
        interrupt_(AddIrqfd(vm, place.interrupt)) {
    OrDie(vm.Map(memory_, {.guest_address = pool.start,
                           .size = pool.size,
                           .mode = gmem::MapMode::kShare,
                           .execute = false}));
    OrDie(seen_.Add({.guest_address = pool.start.value(),
                     .size = pool.size.value(),
                     .user_address = 0,
                     .mmap_offset = 0},
                    memory_.fd()));
  }

  const gmem::gunyah::MmioDevice& place() const { return place_; }
  VirtioMmio& registers() { return registers_; }

  // Returns the content of the disk.
  std::vector<uint32_t> Read() const {
    std::vector<uint32_t> words(kSize.value() / sizeof(uint32_t));
    if (OrDie(pread(file_.get(), words.data(), kSize.value(), 0), "pread") !=
        static_cast<ssize_t>(kSize.value())) {
      Die(absl::InternalError("the disk has become shorter"));
    }
    return words;
  }

 private:
  static std::unique_ptr<BlockImage> OpenDisk(int file) {
    OrDie(ftruncate(file, static_cast<off_t>(kSize.value())), "ftruncate");
    return OrDie(BlockImage::Open(absl::StrCat("/proc/self/fd/", file), /*is_read_only=*/false));
  }

  const gmem::gunyah::MmioDevice place_;
  const gmem::GuestMemory memory_;
  // The guest's memory as the device sees it.
  gmem::vhost::GuestMemoryMap seen_;
  const gmem::UniqueFd file_;
  const std::unique_ptr<BlockImage> disk_;
  const gmem::UniqueFd interrupt_;
  VirtioDisk device_{disk_.get(), 1};
  VirtioMmio registers_{&device_, &seen_,
                        [this] { OrDie(eventfd_write(interrupt_.get(), 1), "eventfd"); }};
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_POOL_DISK_H_
