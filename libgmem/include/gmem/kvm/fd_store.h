// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_FD_STORE_H_
#define GMEM_KVM_FD_STORE_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {

/// The service manager's file descriptor store (systemd.service(5), FileDescriptorStoreMax=). The
/// manager keeps descriptors of a service while the service restarts, and passes them to the new
/// process, where FdTable::Inherit() finds them. The protocol is that of sd_notify(3): a datagram
/// on a socket, with the descriptor attached.
///
/// The manager doesn't reply. It drops a descriptor that it can't accept (the unit's limit is
/// reached, or NotifyAccess= is too narrow) and writes that to the journal. Sync() waits until the
/// manager has handled the messages.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Open(), Store(), Remove(), Sync().\n
/// Needs exclusive access: moving, destroying.
class FdStore {
 public:
  /// @p notify_socket is the value of $NOTIFY_SOCKET: a path, or a name that begins with '@'.
  /// FailedPrecondition if it is null: no service manager started this process.
  static absl::StatusOr<FdStore> Open(const char* notify_socket);

  /// Sends a duplicate of @p fd to the manager under a name (see FdTable). Several descriptors may
  /// have the same name.
  absl::Status Store(absl::string_view name, int fd) const;

  /// Makes the manager close all descriptors of that name.
  absl::Status Remove(absl::string_view name) const;

  /// Waits until the manager has handled all messages of this process. Call it before the process
  /// ends: the manager drops messages of a process that has ended. DeadlineExceeded after @p
  /// timeout; managers before systemd 246 never answer.
  absl::Status Sync(absl::Duration timeout) const;

 private:
  FdStore(UniqueFd socket, std::string address)
      : socket_(std::move(socket)), address_(std::move(address)) {}

  absl::Status Send(int socket, absl::string_view message, int fd) const;

  UniqueFd socket_;
  // The used part of sockaddr_un::sun_path.
  std::string address_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_FD_STORE_H_
