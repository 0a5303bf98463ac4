// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmem/kvm/memory_mapper.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "host_map.h"
#include "region_mapper.h"
#include "status_util.h"

namespace gmem::kvm {
namespace {

constexpr ByteSize kHugePage = MiB(2);

// Pages of a mapping that lie behind the end of the file are SIGBUS. KVM can't tell
// that from a page that takes time to read, and may wait for it for ever.
absl::Status CheckFileReaches(const gmem::MemoryMapper::Piece& piece, ByteSize page_size) {
  struct stat stat = {};
  if (fstat(piece.fd, &stat) != 0) {
    return internal::ErrnoError(errno, absl::StrCat("can't map descriptor ", piece.fd));
  }
  // Devices and the like have no size to go by.
  if (!S_ISREG(stat.st_mode)) return absl::OkStatus();

  const uint64_t mask = page_size.value() - 1;
  const ByteOffset end((static_cast<uint64_t>(stat.st_size) + mask) & ~mask);
  if (piece.fd_offset + piece.size <= end) return absl::OkStatus();
  return internal::CheckError(
      EINVAL, absl::StrCat(ToString(piece.size), " from offset ", ToString(piece.fd_offset),
                           " of descriptor ", piece.fd, " reach beyond its file, of ",
                           ToString(ByteSize(static_cast<uint64_t>(stat.st_size)))));
}

class RegionOverKvm final : public internal::RegionMapper {
 public:
  RegionOverKvm(Mapping memory, Memslot slot, size_t max_pieces)
      : RegionMapper(ByteSize(memory.size()), HostPageSize(), max_pieces),
        memory_(std::move(memory)),
        slot_(std::move(slot)) {}

 private:
  absl::Status DoMap(const Piece& piece) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    GMEM_RETURN_IF_ERROR(CheckFileReaches(piece, page_size()));
    return internal::MapOver(memory_.span(piece.range()), piece.fd, piece.fd_offset, piece.access);
  }
  absl::Status DoUnmap(ByteRange range) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return internal::ReserveOver(memory_.span(range));
  }

  const Mapping memory_;
  // Goes first: the guest has no memslot over addresses that are others' by then.
  const Memslot slot_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<gmem::MemoryMapper>> NewMemoryMapper(
    const Vm& vm, GuestRange range, const MemoryMapperOptions& options) {
  // KVM uses a huge page where guest and host addresses are aligned to one alike.
  const bool huge = IsAligned(range.start, kHugePage) && range.size >= kHugePage;
  GMEM_ASSIGN_OR_RETURN(Mapping memory,
                        Mapping::Reserve(range.size, huge ? kHugePage : HostPageSize()));
  GMEM_ASSIGN_OR_RETURN(Memslot slot,
                        vm.AddMemslot({.guest_address = range.start, .host = memory.span()}));
  return std::make_unique<RegionOverKvm>(std::move(memory), std::move(slot), options.max_pieces);
}

}  // namespace gmem::kvm
