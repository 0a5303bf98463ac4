// SPDX-License-Identifier: MIT OR Apache-2.0
// A service manager such as systemd passes a socket to a daemon, and the daemon tells it when it is
// ready: sd_listen_fds(3) and sd_notify(3) say how. No library of systemd is needed.
#ifndef GMEM_TOOLS_VHOST_SUPERVISOR_H_
#define GMEM_TOOLS_VHOST_SUPERVISOR_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/unique_fd.h"

// The socket that the manager has passed to this process, if it has passed one: socket activation.
// Call it once. InvalidArgument if it has passed several.
absl::StatusOr<std::optional<gmem::UniqueFd>> PassedSocket();

// The manager, if there is one that wants to know what the daemon does.
class ServiceManager {
 public:
  static absl::StatusOr<ServiceManager> Find();

  // Tells the manager of a change of @state: "READY=1", "STOPPING=1". Opens no descriptor.
  absl::Status Tell(absl::string_view state) const;

 private:
  ServiceManager() = default;

  gmem::UniqueFd socket_;
  sockaddr_un address_ = {};
  socklen_t length_ = 0;
};

#endif  // GMEM_TOOLS_VHOST_SUPERVISOR_H_
