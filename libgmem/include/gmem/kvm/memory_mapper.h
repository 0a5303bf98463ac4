// SPDX-License-Identifier: MIT OR Apache-2.0
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
  /// How many pieces may be mapped at a time. Each takes one of the process's mappings, of which
  /// the kernel allows 65,530 by default. 1 to 1,048,576, else InvalidArgument.
  size_t max_pieces = 1024;
};

/// A gmem::MemoryMapper over plain KVM: the region is @p range of the guest, which must be free.
/// The mapper has one memslot over reserved addresses and maps the pieces over those. No call
/// changes a memslot: KVM follows the mappings by itself. The unit is a page; the guest gets huge
/// pages where its addresses and the files are aligned to them.
///
/// A guest access to a page that isn't mapped, or a write to a piece that is read-only, makes
/// KVM_RUN fail with EFAULT, without an address; the VMM may map something and run again. (A KVM
/// that emulates the guest may give an MMIO exit instead.)
///
/// A piece may not reach beyond the end of its file: InvalidArgument. If the file's owner shortens
/// the file later, the piece reaches beyond its end. On x86, a guest that touches the lost part can
/// then make KVM_RUN spin in the kernel (until a signal), if KVM has the interrupt controller. From
/// an owner that isn't trusted, take only files sealed with F_SEAL_SHRINK.
///
/// The destructor removes the memslot and all pieces. The mapper keeps the VM open.
///
/// Thread-safe.
absl::StatusOr<std::unique_ptr<gmem::MemoryMapper>> NewMemoryMapper(
    const Vm& vm, GuestRange range, const MemoryMapperOptions& options = {});

}  // namespace gmem::kvm

#endif  // GMEM_KVM_MEMORY_MAPPER_H_
