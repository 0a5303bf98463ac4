// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/memory_view.h"

#include <linux/gmem.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/host_map.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "module/newer_module.h"
#include "module/object_name.h"

namespace gmem {

using internal::CheckError;
using internal::ErrnoError;

absl::StatusOr<Mapping> MemoryView::Map(ByteRange range, MemoryAccess access) const {
  return internal::MapPart(fd_.get(), range, size_, access, "view");
}

absl::StatusOr<MemoryView> GuestMemory::CreateView(ByteRange range,
                                                   const MemoryViewOptions& options) const {
  gmem_mem_view view = {};
  view.size = sizeof(view);
  view.flags = options.read_only ? GMEM_VIEW_READ_ONLY : 0;
  view.offset = range.start.value();
  view.length = range.size.value();
  GMEM_RETURN_IF_ERROR(internal::SetName(options.name, view.name));
  UniqueFd fd(ioctl(fd_.get(), GMEM_MEM_VIEW, &view));
  if (fd) return MemoryView(std::move(fd), view.id, range.size);

  const int error = errno;
  const std::string what = absl::StrCat("can't create a view of ", ToString(range));
  if (error == ENOTTY) return internal::NewerModuleError(error, what, "views");
  if (error == EOPNOTSUPP) {
    return CheckError(error, absl::StrCat(what, ": secret memory can't have views"));
  }
  if (error == EINVAL || error == EOVERFLOW) {
    const std::string wrong = internal::FindRangeError(
        {.start_name = "offset",
         .page_size = page_size_,
         .page_owner = "guestmem",
         .limit = size_.value(),
         .limit_name = absl::StrCat("the ", ToString(size_), " of this guestmem")},
        range.start.value(), range.size);
    if (!wrong.empty()) return CheckError(error, absl::StrCat(what, ": ", wrong));
  }
  if (error == EACCES) {
    return ErrnoError(error, absl::StrCat(what,
                                          ": the descriptor of the guestmem is read-only: "
                                          "make the view read-only, too"));
  }
  return ErrnoError(error, what);
}

absl::StatusOr<uint64_t> GuestMemory::RevokeView(uint64_t view_id) const {
  gmem_mem_revoke revoke = {};
  revoke.size = sizeof(revoke);
  revoke.id = view_id;
  if (ioctl(fd_.get(), GMEM_MEM_REVOKE, &revoke) == 0) return revoke.pinned;

  const int error = errno;
  const std::string what = absl::StrCat("can't revoke view ", view_id);
  if (error == ENOTTY) return internal::NewerModuleError(error, what, "views");
  if (error == ENOENT) {
    return CheckError(error, absl::StrCat(what,
                                          ": this guestmem has no such view, or it was "
                                          "revoked before"));
  }
  if (error == EACCES) {
    return ErrnoError(
        error, absl::StrCat(what, ": the descriptor of the guestmem is not open for writing"));
  }
  return ErrnoError(error, what);
}

}  // namespace gmem
