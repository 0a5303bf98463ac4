// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/testing/driver_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::doubles {

using internal::CheckError;
using internal::ErrnoError;

absl::StatusOr<std::unique_ptr<DriverMemory>> DriverMemory::Create(size_t size,
                                                                   uint64_t guest_address) {
  UniqueFd fd(memfd_create("driver", MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make a file of ", size, " bytes"));
  }
  return Adopt(std::move(fd), size, guest_address);
}

absl::StatusOr<std::unique_ptr<DriverMemory>> DriverMemory::Adopt(UniqueFd fd, size_t size,
                                                                  uint64_t guest_address) {
  void* const base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return ErrnoError(errno, absl::StrCat("can't map ", size, " bytes"));
  return std::unique_ptr<DriverMemory>(
      new DriverMemory(std::move(fd), static_cast<uint8_t*>(base), size, guest_address));
}

DriverMemory::~DriverMemory() { munmap(base_, size_); }

MemoryRegion DriverMemory::region() const {
  return {.guest_address = guest_address_,
          .size = size_,
          .user_address = reinterpret_cast<uint64_t>(base_),
          .mmap_offset = 0};
}

absl::StatusOr<absl::Span<uint8_t>> DriverMemory::Allocate(size_t size, size_t alignment) {
  const size_t begin = (used_ + alignment - 1) & ~(alignment - 1);
  if (begin > size_ || size > size_ - begin) {
    return CheckError(ENOMEM,
                      absl::StrCat("can't allocate ", size, " bytes: too few are left of ", size_));
  }
  used_ = begin + size;
  return bytes().subspan(begin, size);
}

absl::StatusOr<DriverRing> NewRing(DriverMemory& memory, uint32_t size) {
  GMEM_ASSIGN_OR_RETURN(const auto bytes, memory.Allocate(DriverRing::MemorySize(size), 4096));
  return DriverRing::Create(memory.ring_memory(), bytes, size);
}

void CorruptRing(const DriverMemory& memory, DriverRing& ring) {
  const uint64_t offset = ring.address(0).available - memory.ring_memory().user_address;
  // flags, index, entries
  auto* const available = reinterpret_cast<uint16_t*>(memory.bytes().data() + offset);
  const uint16_t next = available[1];
  available[2 + next % ring.size()] = static_cast<uint16_t>(ring.size());
  std::atomic_ref<uint16_t>(available[1]).store(next + 1, std::memory_order_release);
  ring.Kick();
}

}  // namespace gmem::vhost::doubles
