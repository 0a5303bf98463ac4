// SPDX-License-Identifier: MIT OR Apache-2.0
#include "child.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/types/span.h"
#include "base/exit_status.h"
#include "gmem/unique_fd.h"

namespace broker {
namespace {

// The first descriptor that isn't standard input, output or error.
constexpr int kFirstFd = 3;

[[noreturn]] void Fail(const char* what, int status) {
  const int error = errno;
  dprintf(STDERR_FILENO, "gmem-broker: %s: %s\n", what, strerror(error));
  _exit(status);
}

// Gives the command of another user an environment without this program's secrets.
bool ResetEnvironment(const User& user) {
  std::vector<std::pair<const char*, std::string>> variables = {
      {"HOME", user.home}, {"LOGNAME", user.name}, {"USER", user.name}};
  for (const char* const name : {"LANG", "PATH", "TERM"}) {
    if (const char* const value = getenv(name)) variables.emplace_back(name, value);
  }
  if (clearenv() != 0) return false;
  for (const auto& [name, value] : variables) {
    if (setenv(name, value.c_str(), 1) != 0) return false;
  }
  return true;
}

// Leaves another user's command nothing of this program's but standard input, output and error.
void Withhold(const User& user) {
  if (close_range(kFirstFd, ~0U, CLOSE_RANGE_CLOEXEC) != 0) {
    Fail("can't withhold descriptors from the command", tools::kExitCantRun);
  }
  if (!ResetEnvironment(user)) {
    Fail("can't withhold the environment from the command", tools::kExitCantRun);
  }
}

void Become(const User& user) {
  if (initgroups(user.name.c_str(), user.gid) != 0 || setgid(user.gid) != 0 ||
      setuid(user.uid) != 0) {
    Fail("can't change the user", tools::kExitCantRun);
  }
}

}  // namespace

absl::StatusOr<User> FindUser(const std::string& name) {
  errno = 0;
  const passwd* const entry = getpwnam(name.c_str());
  if (entry != nullptr) return User{name, entry->pw_uid, entry->pw_gid, entry->pw_dir};
  // Several errors stand for an unknown name: see getpwnam(3).
  const int error = errno;
  if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM) {
    return absl::InvalidArgumentError(absl::StrCat("--user: there is no user \"", name, "\""));
  }
  return absl::UnavailableError(
      absl::StrCat("can't look up the user \"", name, "\": ", strerror(error)));
}

absl::StatusOr<pid_t> StartChild(absl::Span<char* const> arguments, gmem::UniqueFd fd,
                                 const std::optional<User>& user) {
  if (fd.get() < kFirstFd) {
    fd.reset(fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstFd));
    if (!fd) return absl::ErrnoToStatus(errno, "can't duplicate the window descriptor");
  }
  const std::string number = absl::StrCat(fd.get());
  std::vector<std::string> words;
  for (const char* const argument : arguments) {
    words.push_back(absl::StrReplaceAll(argument, {{"{}", number}}));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "can't make a process");
  if (pid > 0) return pid;

  // Else the command could type on this program's terminal, by TIOCSTI, and get the terminal's
  // signals twice.
  if (setsid() < 0) Fail("can't make a session", tools::kExitCantRun);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (user) Withhold(*user);
  if (fcntl(fd.get(), F_SETFD, 0) != 0 || setenv("GMEM_FD", number.c_str(), 1) != 0) {
    Fail("can't let the command inherit the window descriptor", tools::kExitCantRun);
  }
  if (user) Become(*user);
  execvp(argv[0], argv.data());
  Fail(argv[0], errno == ENOENT ? tools::kExitNotFound : tools::kExitCantRun);
}

}  // namespace broker
