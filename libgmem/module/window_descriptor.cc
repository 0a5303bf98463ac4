// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/window_descriptor.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/fallocate.h"
#include "base/host_map.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "module/newer_module.h"
#include "module/object_name.h"
#include "module/vm_error.h"

namespace gmem {

using internal::CheckError;
using internal::ErrnoError;

absl::StatusOr<Mapping> WindowDescriptor::Map(ByteRange part, MemoryAccess access) const {
  return internal::MapPart(fd_.get(), part, range_.size, access, "window descriptor");
}

absl::Status WindowDescriptor::Discard(ByteRange part) const {
  const std::string what =
      absl::StrCat("can't discard ", ToString(part), " of a window descriptor");
  const std::string wrong = internal::FindRangeError(
      {.start_name = "offset",
       .page_size = HostPageSize(),
       .page_owner = "host",
       .limit = range_.size.value(),
       .limit_name = absl::StrCat("the ", ToString(range_.size), " of this window descriptor")},
      part.start.value(), part.size);
  if (!wrong.empty()) {
    return CheckError(part.IsValid() ? EINVAL : EOVERFLOW, absl::StrCat(what, ": ", wrong));
  }
  const int error = internal::FallocateInChunks(
      fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, part, HostPageSize());
  switch (error) {
    case 0:
      return absl::OkStatus();
    // The kernel's answer to a read-only descriptor.
    case EBADF:
    case EOPNOTSUPP:
      return CheckError(EOPNOTSUPP, absl::StrCat(what,
                                                 ": it is read-only, or was made without "
                                                 "WindowDescriptorOptions::allow_discard"));
    case EACCES:
      return ErrnoError(error, absl::StrCat(what, ": a binding doesn't let the guest write"));
    case EBUSY:
      return ErrnoError(error,
                        absl::StrCat(what, ": a page is pinned, or another binding has it, too"));
    default:
      return ErrnoError(error, what);
  }
}

absl::StatusOr<WindowDescriptor> Vm::OpenWindow(GuestRange range,
                                                const WindowDescriptorOptions& options) const {
  gmem_vm_window window = {};
  window.size = sizeof(window);
  if (options.read_only) window.flags |= GMEM_WINDOW_READ_ONLY;
  if (!options.allow_discard) window.flags |= GMEM_WINDOW_NO_DISCARD;
  window.guest_addr = range.start.value();
  window.length = range.size.value();
  GMEM_RETURN_IF_ERROR(internal::SetName(options.name, window.name));
  UniqueFd fd(ioctl(fd_.get(), GMEM_VM_WINDOW, &window));
  if (fd) return WindowDescriptor(std::move(fd), window.id, range);

  const int error = errno;
  const std::string what = absl::StrCat("can't open a window of ", ToString(range));
  if (error == ENOTTY) return internal::NewerModuleError(error, what, "window descriptors");
  if (error == EOPNOTSUPP) {
    return CheckError(error, absl::StrCat(what,
                                          ": the VM's windows aren't live; create it with "
                                          "WindowKind::kLive"));
  }
  if (error == EINVAL || error == EOVERFLOW) {
    const std::string wrong = internal::FindGuestRangeMistake(*this, range);
    if (!wrong.empty()) return CheckError(error, absl::StrCat(what, ": ", wrong));
  }
  return ErrnoError(error, what);
}

}  // namespace gmem
