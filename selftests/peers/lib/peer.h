// SPDX-License-Identifier: MIT OR Apache-2.0
// The process at the other end of a test's connection, and a folder for the test's files.
#ifndef GMEM_SELFTESTS_PEERS_LIB_PEER_H_
#define GMEM_SELFTESTS_PEERS_LIB_PEER_H_

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gmem::vhost::peers {

/// A temporary folder. The destructor removes it with everything in it.
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

/// A running process. The destructor kills it; the kernel kills it when this process dies.
class Peer {
 public:
  /// Starts a program with its arguments.
  static absl::StatusOr<Peer> Start(std::vector<std::string> command);
  /// Starts a program of selftests/runner/peers. The environment variable GMEM_PEERS is the path of
  /// that script.
  static absl::StatusOr<Peer> StartPackaged(std::vector<std::string> command);
  /// Runs @p work in a process of its own.
  static absl::StatusOr<Peer> Fork(absl::FunctionRef<void()> work);

  Peer(Peer&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Peer& operator=(Peer&& other) noexcept;
  ~Peer() { Kill(); }

  pid_t pid() const { return pid_; }
  bool is_running();
  /// Sends SIGKILL and waits for the end. The process can't clean up before it.
  void Kill();

 private:
  explicit Peer(pid_t pid) : pid_(pid) {}

  pid_t pid_;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_PEER_H_
