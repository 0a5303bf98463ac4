// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_KVM_MEMORY_MAPPER_H_
#define GMEM_KVM_MEMORY_MAPPER_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "gmem/kvm/vm.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"

namespace gmem::kvm {

struct MemoryMapperOptions {
  /// How many pieces may be mapped at a time. Each takes one of the process's mappings,
  /// of which the kernel allows 65,530 by default. 1 to 1,048,576, else InvalidArgument.
  size_t max_pieces = 1024;
};

/// A gmem::MemoryMapper over plain KVM: the region is @p range of the guest, which must
/// be free. It is one memslot over reserved addresses, over which pieces are mapped; no
/// call changes a memslot, and KVM finds out by itself. Whole pages; of huge pages, if
/// the guest's addresses and the files are aligned to them.
///
/// A guest access to what isn't mapped, or a write to what is mapped read-only, makes
/// KVM_RUN fail with EFAULT, without an address; the VMM may map something and run
/// again. (A KVM that emulates the guest may give an MMIO exit instead.)
///
/// A piece may not reach beyond the end of its file: InvalidArgument. A file that its
/// owner makes shorter later brings that back, and on x86 a guest that touches the lost
/// part can make KVM_RUN spin in the kernel (until a signal) when KVM has the interrupt
/// controller. Where the owner isn't trusted, take files sealed with F_SEAL_SHRINK.
///
/// When the mapper goes, the memslot and all pieces go with it. Keeps the VM open.
///
/// Thread-safe.
absl::StatusOr<std::unique_ptr<gmem::MemoryMapper>> NewMemoryMapper(
    const Vm& vm, GuestRange range, const MemoryMapperOptions& options = {});

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMORY_MAPPER_H_
