// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/backend_view.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/memory_view.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::vhost {

absl::StatusOr<std::shared_ptr<BackendView>> BackendView::Create(int guest_memory_fd,
                                                                 ByteRange range,
                                                                 absl::string_view name) {
  GMEM_ASSIGN_OR_RETURN(UniqueFd fd, UniqueFd::Duplicate(guest_memory_fd));
  GMEM_ASSIGN_OR_RETURN(GuestMemory memory, GuestMemory::Adopt(std::move(fd)));
  GMEM_ASSIGN_OR_RETURN(MemoryView view, memory.CreateView(range, {.name = std::string(name)}));
  return absl::WrapUnique(new BackendView(std::move(memory), std::move(view)));
}

void BackendView::Revoke() {
  // Pages that the back-end holds pinned stay with it until the pins end. Nobody could do more.
  if (!std::exchange(is_revoked_, true)) memory_.RevokeView(id_).status().IgnoreError();
}

}  // namespace gmem::vhost
