// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vm_memory_mapper.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/memory_mapper.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "mapper/region_mapper.h"

namespace gmem {
namespace {

class VmMemoryMapper final : public internal::RegionMapper {
 public:
  VmMemoryMapper(const Window* window, GuestRange range, size_t max_pieces)
      : RegionMapper(range.size, HostPageSize(), max_pieces), window_(window), range_(range) {}

  ~VmMemoryMapper() override { UnmapAll().IgnoreError(); }

 private:
  GuestRange ToGuest(ByteRange range) const {
    return {range_.start + ByteSize(range.start.value()), range.size};
  }

  absl::Status DoMap(const Piece& piece) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const GuestRange guest = ToGuest(piece.range());
    if (!GuestMemory::IsGuestMemory(piece.fd)) {
      GMEM_RETURN_IF_ERROR(internal::CheckFileReaches(piece.fd, piece.fd_offset, piece.size));
      return internal::MapOver(window_->HostMemory(guest), piece.fd, piece.fd_offset, piece.access);
    }

    // Ask for read and execute, too: no provider with windows can keep the guest from reading or
    // executing.
    return window_->Map(piece.fd, {.guest_address = guest.start,
                                   .offset = piece.fd_offset,
                                   .size = piece.size,
                                   .mode = MapMode::kShare,
                                   .write = piece.access == MemoryAccess::kReadWrite});
  }

  absl::Status DoUnmap(ByteRange range) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const GuestRange guest = ToGuest(range);
    bool is_bound = false;
    GMEM_RETURN_IF_ERROR(window_->vm().ForEachBinding(guest, [&is_bound](const Binding&) {
      is_bound = true;
      return false;
    }));
    if (is_bound) return window_->Unmap(guest).status();
    // The window has the mapping of another file here: replace it by one that shows nothing.
    return internal::MapOver(window_->HostMemory(guest), window_->vm().fd(),
                             ByteOffset(guest.start.value()), window_->access());
  }

  const Window* const window_;
  const GuestRange range_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MemoryMapper>> NewVmMemoryMapper(
    const Window* window, GuestRange range, const VmMemoryMapperOptions& options) {
  if (window->HostMemory(range).empty()) {
    return internal::CheckError(EINVAL, absl::StrCat(ToString(range), " doesn't lie in the window ",
                                                     ToString(window->range())));
  }
  if (window->access() != MemoryAccess::kReadWrite) {
    return internal::CheckError(EACCES, "the window is read-only: create it with kReadWrite");
  }
  GMEM_RETURN_IF_ERROR(internal::RegionMapper::CheckMaxPieces(options.max_pieces));
  std::string bound;
  GMEM_RETURN_IF_ERROR(window->vm().ForEachBinding(range, [&bound](const Binding& binding) {
    bound = ToString(binding.range);
    return false;
  }));
  if (!bound.empty()) {
    return internal::CheckError(
        EEXIST, absl::StrCat("the region ", ToString(range), " holds the binding ", bound,
                             ": unmap that first"));
  }
  return std::make_unique<VmMemoryMapper>(window, range, options.max_pieces);
}

}  // namespace gmem
