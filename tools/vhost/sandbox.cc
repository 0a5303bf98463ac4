// SPDX-License-Identifier: MIT OR Apache-2.0
#include "sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

namespace {

// Abseil, the C library and the back-end library need these.
constexpr const char* kAllowed[] = {
    // Memory. AddRules() adds mmap() and mprotect().
    "munmap", "mremap", "madvise", "brk",
    // Threads and signals.
    "set_robust_list", "rseq", "futex", "exit", "exit_group", "gettid", "getpid", "sched_yield",
    "sched_getaffinity", "rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "sigaltstack",
    "restart_syscall", "getrandom",
    // Time.
    "clock_gettime", "gettimeofday", "clock_nanosleep", "nanosleep",
    // Descriptors that are open, and new ones that lead nowhere.
    "read", "write", "readv", "writev", "preadv2", "close", "fstat", "fstatfs", "statx", "lseek",
    "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2",
    "memfd_create", "ftruncate", "fallocate", "io_setup", "io_submit", "io_getevents", "io_destroy",
    // Sockets that are open. sendto() tells the service manager of the end.
    "accept", "accept4", "recvmsg", "sendmsg", "recvfrom", "sendto", "getsockopt", "shutdown",
    // A listening socket is removed from the file system at the end, if it is still the same.
    "lstat", "newfstatat", "unlink", "unlinkat",
    // The back-end library looks up of what kind a descriptor of the front-end is.
    "readlink", "readlinkat"};

// These fail, and their callers go on without them: clone3() hides its flags from the filter, and
// the C library then calls clone(). Files that the C library likes to look at have only hints.
constexpr const char* kFailing[] = {"clone3", "open", "openat", "access"};

absl::string_view program_name;

// Async-signal-safe.
void Die(int /*signal*/, siginfo_t* info, void* /*context*/) {
  std::array<char, 20> digits;
  const std::to_chars_result end =
      std::to_chars(digits.data(), digits.data() + digits.size(), info->si_syscall);
  const auto say = [](absl::string_view text) {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
  };
  say(program_name);
  say(": the sandbox forbids system call ");
  say({digits.data(), static_cast<size_t>(end.ptr - digits.data())});
  say(": the process ends (--sandbox=off would allow it)\n");
  signal(SIGSYS, SIG_DFL);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGSYS);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  // The filter forbids this call to everyone, so the signal comes again.
  syscall(SYS_execve, nullptr, nullptr, nullptr);
}

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

int Add(const Filter& filter, uint32_t action, const char* name,
        absl::Span<const scmp_arg_cmp> arguments = {}) {
  const int number = seccomp_syscall_resolve_name(name);
  if (number == __NR_SCMP_ERROR) return 0;
  return seccomp_rule_add_array(filter.get(), action, number,
                                static_cast<unsigned>(arguments.size()), arguments.data());
}

// Returns 0 or a negative errno.
int AddRules(const Filter& filter, const SandboxRules& rules) {
  int error = 0;
  const auto add = [&](const char* name, absl::Span<const scmp_arg_cmp> arguments = {}) {
    if (error == 0) error = Add(filter, SCMP_ACT_ALLOW, name, arguments);
  };
  for (const char* const name : kAllowed) add(name);
  for (const std::string& name : rules.calls) add(name.c_str());
  for (const uint64_t command : rules.ioctls) {
    add("ioctl", {SCMP_A1(SCMP_CMP_EQ, command, 0)});
  }
  // No new code.
  for (const char* const name : {"mmap", "mprotect"}) {
    add(name, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  }
  // F_SETSIG and F_SETOWN would send signals to other processes.
  for (const int command : {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS,
                            F_GET_SEALS, F_OFD_SETLK}) {
    add("fcntl", {SCMP_A1(SCMP_CMP_EQ, static_cast<scmp_datum_t>(command), 0)});
  }
  // Threads, but no processes.
  add("clone", {SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)});
  add("prctl", {SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0)});
  // Limits are read, but not changed.
  add("prlimit64", {SCMP_A0(SCMP_CMP_EQ, 0, 0), SCMP_A2(SCMP_CMP_EQ, 0, 0)});
  add("getrlimit");
  // abort().
  add("tgkill", {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(getpid()), 0)});
  for (const char* const name : kFailing) {
    if (error == 0) {
      error =
          Add(filter, SCMP_ACT_ERRNO(absl::string_view(name) == "clone3" ? ENOSYS : EACCES), name);
    }
  }
  return error;
}

// The filter can't see which file unlink() removes. Where the kernel has Landlock, only files
// beside the socket @path can be removed.
void LeaveFileSystem(const std::string& path) {
  constexpr uint64_t kAll = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
  landlock_ruleset_attr attributes = {};
  attributes.handled_access_fs = kAll;
  const gmem::UniqueFd rules(static_cast<int>(
      syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes.handled_access_fs), 0)));
  if (!rules) return;
  landlock_path_beneath_attr beside = {};
  beside.allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE;
  std::error_code error;
  const std::string folder = std::filesystem::absolute(path, error).parent_path();
  const gmem::UniqueFd parent(open(folder.c_str(), O_PATH | O_CLOEXEC));
  beside.parent_fd = parent.get();
  if (!path.empty() && parent) {
    syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &beside, 0);
  }
  syscall(SYS_landlock_restrict_self, rules.get(), 0);
}

}  // namespace

absl::Status EnterSandbox(absl::string_view program, const std::string& socket_path,
                          const SandboxRules& rules) {
  program_name = program;
  struct sigaction action = {};
  action.sa_sigaction = Die;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSYS, &action, nullptr) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return absl::ErrnoToStatus(errno, "can't prepare the sandbox");
  }
  LeaveFileSystem(socket_path);
  const Filter filter(seccomp_init(SCMP_ACT_TRAP), &seccomp_release);
  int error = filter == nullptr ? -ENOMEM : AddRules(filter, rules);
  if (error == 0) error = seccomp_load(filter.get());
  if (error == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(
      -error, "the kernel refuses the sandbox's filter (--sandbox=off goes on without one)");
}
