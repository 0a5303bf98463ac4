// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_BACKEND_VIEW_H_
#define GMEM_VHOST_BACKEND_VIEW_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/guest_memory.h"
#include "gmem/memory_view.h"
#include "gmem/types.h"

namespace gmem::vhost {

/// A view of a guestmem for one back-end, see MemoryView. The front-end makes it. The destructor
/// revokes it.
///
/// Thread-compatible.
class BackendView {
 public:
  /// @p guest_memory_fd is borrowed for the call. Errors: those of GuestMemory::CreateView().
  static absl::StatusOr<std::shared_ptr<BackendView>> Create(int guest_memory_fd, ByteRange range,
                                                             absl::string_view name);
  BackendView(const BackendView&) = delete;
  BackendView& operator=(const BackendView&) = delete;
  ~BackendView() { Revoke(); }

  int fd() const { return view_.fd(); }
  uint64_t id() const { return view_.id(); }

  /// The back-end's memory ends here, whatever it still has mapped. Has no effect the second time.
  void Revoke();

 private:
  BackendView(GuestMemory memory, MemoryView view)
      : memory_(std::move(memory)), view_(std::move(view)) {}

  const GuestMemory memory_;
  const MemoryView view_;
  bool is_revoked_ = false;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BACKEND_VIEW_H_
