// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-broker: owns a guest's memory, which a VMM of another user maps by a descriptor.
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/exit_status.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "child.h"
#include "control.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "guest.h"

ABSL_FLAG(std::string, socket, "", "path of the control socket");
ABSL_FLAG(tools::Size, size, {},
          "bytes of the guest's memory; K, M, G and T stand for powers of 1024");
ABSL_FLAG(std::string, user, "", "run the command as this user");
ABSL_FLAG(std::string, name, "", "a name, at most 31 characters, for the host's operator");
ABSL_FLAG(std::string, policy, "allow",
          "what becomes of a page that comes back from the guest: allow keeps its contents, scrub "
          "zeroes it, deny refuses until the page is unbound");
ABSL_FLAG(std::string, restore, "",
          "a file with the contents of the memory: the command starts at once, and memory comes "
          "when it is used");
ABSL_FLAG(bool, prefetch, true, "with --restore: bring memory also before it is used");
ABSL_FLAG(bool, hugepages, false, "back the memory with huge pages");
ABSL_FLAG(bool, discard, true, "let the command give memory back");

namespace broker {
namespace {

constexpr absl::string_view kName = "gmem-broker";
// As the shell has it, plus the number of the signal.
constexpr int kExitSignal = 128;
// How long the broker pauses before it brings more memory that nobody has asked for, in ms.
constexpr int kRestorePause = 1;

absl::StatusOr<gmem::ReclaimPolicy> Policy() {
  const std::string policy = absl::GetFlag(FLAGS_policy);
  if (policy == "allow") return gmem::ReclaimPolicy::kAllow;
  if (policy == "scrub") return gmem::ReclaimPolicy::kScrub;
  if (policy == "deny") return gmem::ReclaimPolicy::kDeny;
  return absl::InvalidArgumentError(
      absl::StrCat("--policy: \"", policy, "\" is neither allow nor scrub nor deny"));
}

// The signals that end the program arrive through the descriptor, as does the command's end.
absl::StatusOr<gmem::UniqueFd> Signals() {
  // If this program has inherited that SIGCHLD is ignored, the kernel doesn't report the end of the
  // command.
  signal(SIGCHLD, SIG_DFL);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  gmem::UniqueFd fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, "can't wait for signals");
  return fd;
}

// Passes signals on to the command. Returns the exit status if the command has ended.
std::optional<int> HandleSignals(int signals, pid_t child) {
  signalfd_siginfo info;
  while (read(signals, &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo != SIGCHLD) {
      kill(child, static_cast<int>(info.ssi_signo));
      continue;
    }
    int status = 0;
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended < 0) return tools::kExitFailed;
    if (ended != child) continue;
    return WIFSIGNALED(status) ? kExitSignal + WTERMSIG(status) : WEXITSTATUS(status);
  }
  return std::nullopt;
}

// Carries out commands of the control socket until the child ends. Returns its exit status.
int Serve(Guest& guest, std::optional<Control> control, int signals, pid_t child) {
  std::vector<pollfd> fds;
  for (;;) {
    if (const std::optional<int> status = HandleSignals(signals, child)) return *status;
    if (control) control->Process(guest);
    fds = {{.fd = signals, .events = POLLIN, .revents = 0}};
    int timeout = control ? control->AddTo(fds) : -1;
    if (guest.IsRestoring()) {
      if (absl::Status status = guest.RestoreSome(); !status.ok()) {
        tools::PrintError(kName, status.message());
      }
      fds.push_back({.fd = guest.fd(), .events = POLLIN, .revents = 0});
      if (guest.IsPrefetching()) timeout = kRestorePause;
    }
    poll(fds.data(), fds.size(), timeout);
  }
}

absl::StatusOr<int> RunCommandWithMemory(tools::Words arguments) {
  const gmem::ByteSize size(absl::GetFlag(FLAGS_size).value_or(0));
  if (size.value() == 0) return absl::InvalidArgumentError("run needs --size, say --size=256M");
  if (arguments.empty()) return absl::InvalidArgumentError("run needs a command, after --");
  const absl::StatusOr<gmem::ReclaimPolicy> policy = Policy();
  if (!policy.ok()) return policy.status();
  std::optional<User> user;
  if (const std::string name = absl::GetFlag(FLAGS_user); !name.empty()) {
    absl::StatusOr<User> found = FindUser(name);
    if (!found.ok()) return found.status();
    user = *std::move(found);
  }

  absl::StatusOr<Guest> guest = Guest::Create({.size = size,
                                               .huge_pages = absl::GetFlag(FLAGS_hugepages),
                                               .policy = *policy,
                                               .allow_discard = absl::GetFlag(FLAGS_discard),
                                               .name = absl::GetFlag(FLAGS_name),
                                               .restore = absl::GetFlag(FLAGS_restore),
                                               .prefetch = absl::GetFlag(FLAGS_prefetch)});
  if (!guest.ok()) return guest.status();
  std::optional<Control> control;
  if (const std::string path = absl::GetFlag(FLAGS_socket); !path.empty()) {
    absl::StatusOr<Control> listening = Control::Listen(path);
    if (!listening.ok()) return listening.status();
    control = *std::move(listening);
  }
  const absl::StatusOr<gmem::UniqueFd> signals = Signals();
  if (!signals.ok()) return signals.status();
  const absl::StatusOr<pid_t> child = StartChild(arguments, guest->TakeWindow(), user);
  if (!child.ok()) return child.status();
  return Serve(*guest, std::move(control), signals->get(), *child);
}

absl::StatusOr<int> TellBroker(tools::Words words) {
  const std::string path = absl::GetFlag(FLAGS_socket);
  if (path.empty()) return absl::InvalidArgumentError("tell needs --socket");
  if (words.empty()) return absl::InvalidArgumentError("tell needs a command");
  if (absl::Status status = Tell(path, absl::StrJoin(words, " ")); !status.ok()) return status;
  return 0;
}

absl::StatusOr<int> Run(tools::Words words) {
  if (!words.empty() && absl::string_view(words[0]) == "run") {
    return RunCommandWithMemory(words.subspan(1));
  }
  if (!words.empty() && absl::string_view(words[0]) == "tell") return TellBroker(words.subspan(1));
  return absl::InvalidArgumentError("the first word is run or tell: see gmem-broker --help");
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = broker::kName,
       .run = broker::Run,
       .usage = "gmem-broker run --size=SIZE [--user=USER] [--socket=PATH] [FLAG]... -- COMMAND "
                "[ARGUMENT]...\n"
                "gmem-broker tell --socket=PATH bind|unbind|trim|reclaim ADDRESS SIZE\n"
                "gmem-broker tell --socket=PATH save FILE\n"
                "gmem-broker tell --socket=PATH prefetch|status",
       .summary = "owns a guest's memory, which a VMM of another user maps by a descriptor"},
      argc, argv);
}
