// SPDX-License-Identifier: MIT OR Apache-2.0
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
#include "gmem/unique_fd.h"

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

  /// The view, for the back-end; -1 after CloseFd().
  int fd() const { return fd_.get(); }
  uint64_t id() const { return id_; }

  /// Closes this process's own descriptor of the view. The back-end keeps the view.
  void CloseFd() { fd_.reset(); }

  /// The back-end's memory ends here, whatever it still has mapped. Has no effect the second time.
  void Revoke();

 private:
  BackendView(GuestMemory memory, MemoryView view)
      : memory_(std::move(memory)), id_(view.id()), fd_(std::move(view).Release()) {}

  const GuestMemory memory_;
  const uint64_t id_;
  UniqueFd fd_;
  bool is_revoked_ = false;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BACKEND_VIEW_H_
