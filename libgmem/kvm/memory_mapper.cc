// SPDX-License-Identifier: Apache-2.0
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
    // The guest must never have a memslot over addresses that are others' by then. In a
    // process that didn't make the VM, it has none.
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
  // KVM uses a huge page where guest and host addresses are aligned to one alike.
  const bool huge = IsAligned(range.start, kHugePage) && range.size >= kHugePage;
  GMEM_ASSIGN_OR_RETURN(Mapping memory,
                        Mapping::Reserve(range.size, huge ? kHugePage : HostPageSize()));
  GMEM_ASSIGN_OR_RETURN(Memslot slot,
                        vm.AddMemslot({.guest_address = range.start, .host = memory.span()}));
  return std::make_unique<RegionOverKvm>(std::move(memory), std::move(slot), options.max_pieces);
}

}  // namespace gmem::kvm
