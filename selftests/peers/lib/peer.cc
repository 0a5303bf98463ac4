// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lib/peer.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace gmem::vhost::peers {

ScratchFolder::ScratchFolder() {
  std::string path = std::filesystem::temp_directory_path() / "gmem.XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    perror("can't make a folder");
    abort();
  }
  path_ = path;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<Peer> Peer::Fork(absl::FunctionRef<void()> work) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "can't fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) work();
    _exit(0);
  }
  return Peer(pid);
}

absl::StatusOr<Peer> Peer::Start(std::vector<std::string> command) {
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  return Fork([&arguments] {
    // The standard output is for the test's TAP.
    dup2(STDERR_FILENO, STDOUT_FILENO);
    execvp(arguments[0], arguments.data());
    perror(arguments[0]);
    _exit(127);
  });
}

absl::StatusOr<Peer> Peer::StartPackaged(std::vector<std::string> command) {
  const char* const peers = getenv("GMEM_PEERS");
  if (peers == nullptr) {
    return absl::FailedPreconditionError("set GMEM_PEERS to the path of selftests/runner/peers");
  }
  command.insert(command.begin(), peers);
  return Start(std::move(command));
}

Peer& Peer::operator=(Peer&& other) noexcept {
  if (this != &other) {
    Kill();
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}

bool Peer::is_running() {
  if (pid_ < 0) return false;
  if (waitpid(pid_, nullptr, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

void Peer::Kill() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace gmem::vhost::peers
