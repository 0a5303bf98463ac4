// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/host_notifiers.h"

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {

using internal::CheckError;

absl::Status HostNotifiers::Set(unsigned index, const UniqueFd& fd, const VringArea& area) {
  const ByteSize page_size = HostPageSize();
  const ByteOffset offset(area.offset);
  if (ByteSize(area.size) != page_size || !IsAligned(offset, page_size) ||
      !CheckedAdd(offset, page_size)) {
    return CheckError(EINVAL, absl::StrCat("a host notifier is one page of ", ToString(page_size),
                                           ", not ", area.size, " bytes at ", ToString(offset)));
  }
  GMEM_RETURN_IF_ERROR(internal::CheckFileReaches(fd.get(), offset, page_size));
  GMEM_ASSIGN_OR_RETURN(Mapping page,
                        Mapping::OfFile(fd.get(), {.offset = offset, .size = page_size}));
  GMEM_RETURN_IF_ERROR(handler_.OnHostNotifier(index, page.data()));
  pages_[index] = std::move(page);
  return absl::OkStatus();
}

absl::Status HostNotifiers::Remove(unsigned index) {
  // The handler may call anything, so take the page out of the map first, and unmap it afterwards.
  const auto page = pages_.extract(index);
  if (page.empty()) {
    return CheckError(ENOENT, absl::StrCat("virtqueue ", index, " has no host notifier"));
  }
  const Session::Busy busy(session_);
  handler_.OnHostNotifier(index, nullptr).IgnoreError();
  return absl::OkStatus();
}

void HostNotifiers::RemoveAll() {
  while (!pages_.empty()) Remove(pages_.begin()->first).IgnoreError();
}

}  // namespace gmem::vhost::frontend_internal
