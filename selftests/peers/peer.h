// SPDX-License-Identifier: Apache-2.0
// A program at the other end of a test.
#ifndef GMEM_SELFTESTS_VHOST_PEER_H_
#define GMEM_SELFTESTS_VHOST_PEER_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gmem::vhost::peers {

/// A folder that is removed at the end, with all that is in it.
class ScratchFolder {
 public:
  ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();

  std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A running program; killed at the end, and when this one dies.
class Peer {
 public:
  /// Starts a program with its arguments.
  static absl::StatusOr<Peer> Start(std::vector<std::string> command);
  /// The same for one of selftests/runner/peers, which the environment's GMEM_PEERS names.
  static absl::StatusOr<Peer> StartPackaged(std::vector<std::string> command);
  /// Runs @p work in a process of its own.
  static absl::StatusOr<Peer> Fork(absl::FunctionRef<void()> work);

  Peer(Peer&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Peer& operator=(Peer&& other) noexcept;
  ~Peer() { Kill(); }

  pid_t pid() const { return pid_; }
  bool is_running();
  /// With SIGKILL: it can't tidy up, or say goodbye.
  void Kill();

 private:
  explicit Peer(pid_t pid) : pid_(pid) {}

  pid_t pid_;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_VHOST_PEER_H_
