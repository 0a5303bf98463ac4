// SPDX-License-Identifier: Apache-2.0
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

void Become(const User& user) {
  if (initgroups(user.name.c_str(), user.gid) != 0 || setgid(user.gid) != 0 ||
      setuid(user.uid) != 0) {
    Fail("can't change the user", kExitCantRun);
  }
}

}  // namespace

absl::StatusOr<User> FindUser(const std::string& name) {
  errno = 0;
  const passwd* const entry = getpwnam(name.c_str());
  if (entry == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("--user: there is no user \"", name, "\""));
  }
  return User{name, entry->pw_uid, entry->pw_gid};
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

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (fcntl(fd.get(), F_SETFD, 0) != 0 || setenv("GMEM_FD", number.c_str(), 1) != 0) {
    Fail("can't let the command inherit the window descriptor", kExitCantRun);
  }
  if (user) Become(*user);
  execvp(argv[0], argv.data());
  Fail(argv[0], errno == ENOENT ? kExitNotFound : kExitCantRun);
}

}  // namespace broker
