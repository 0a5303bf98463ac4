// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/memory_mapper.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "mapper/mapped_region.h"
#include "mapper/region_mapper.h"

namespace gmem::kvm {
namespace {

constexpr ByteSize kHugePage = MiB(2);

class RegionOverKvm final : public internal::MappedRegion {
 public:
  RegionOverKvm(Mapping memory, Memslot slot, size_t max_pieces)
      : MappedRegion(std::move(memory), max_pieces), slot_(std::move(slot)) {}

  ~RegionOverKvm() override {
    // Keep the addresses if the memslot stays: the guest would reach whatever is mapped there next.
    // EIO: this process didn't make the VM, so the memslot isn't over its addresses.
    const absl::Status status = slot_.Remove();
    if (!status.ok() && GetErrno(status) != EIO) LeakMemory();
  }

 private:
  Memslot slot_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<gmem::MemoryMapper>> NewMemoryMapper(
    const Vm& vm, GuestRange range, const MemoryMapperOptions& options) {
  GMEM_RETURN_IF_ERROR(internal::RegionMapper::CheckMaxPieces(options.max_pieces));
  // KVM uses a huge page where the guest's address and the host's are both aligned to one.
  const bool huge = IsAligned(range.start, kHugePage) && range.size >= kHugePage;
  GMEM_ASSIGN_OR_RETURN(Mapping memory,
                        Mapping::Reserve(range.size, huge ? kHugePage : HostPageSize()));
  GMEM_ASSIGN_OR_RETURN(Memslot slot,
                        vm.AddMemslot({.guest_address = range.start, .host = memory.span()}));
  return std::make_unique<RegionOverKvm>(std::move(memory), std::move(slot), options.max_pieces);
}

}  // namespace gmem::kvm
