// SPDX-License-Identifier: Apache-2.0
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

/// The service manager's file descriptor store (systemd.service(5),
/// FileDescriptorStoreMax=): it keeps descriptors of a service while that restarts, and
/// hands them to the new process, where FdTable::Inherit() finds them. The protocol is
/// sd_notify(3)'s: a datagram on a socket, with the descriptor beside it.
///
/// The manager doesn't answer. It drops what it doesn't like (over the limit of the unit,
/// NotifyAccess= too narrow) and tells its journal; Sync() waits until it has looked.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Open(), Store(), Remove(), Sync().\n
/// Needs exclusive access: moving, destroying.
class FdStore {
 public:
  /// @p notify_socket is the value of $NOTIFY_SOCKET: a path, or a name that begins with
  /// '@'. FailedPrecondition if it is null: no service manager started this process.
  static absl::StatusOr<FdStore> Open(const char* notify_socket);

  /// Hands a duplicate of @p fd to the manager under a name (see FdTable). One name may
  /// have several descriptors.
  absl::Status Store(absl::string_view name, int fd) const;

  /// Lets the manager close all descriptors of that name.
  absl::Status Remove(absl::string_view name) const;

  /// Waits until the manager has seen all that was sent. Before a process ends it must:
  /// what comes from a process that is gone has no owner, and is dropped.
  /// DeadlineExceeded; older managers (before systemd 246) never answer.
  absl::Status Sync(absl::Duration timeout) const;

 private:
  FdStore(UniqueFd socket, std::string address)
      : socket_(std::move(socket)), address_(std::move(address)) {}

  absl::Status Send(int socket, absl::string_view message, int fd) const;

  UniqueFd socket_;
  // sockaddr_un::sun_path, as long as it counts.
  std::string address_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_FD_STORE_H_
