// SPDX-License-Identifier: MIT OR Apache-2.0
#include "keyboard.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <optional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"

namespace gmemctl {

Keyboard::Keyboard() {
  termios settings = {};
  // A background process that changed the settings would be stopped.
  if (tcgetpgrp(STDIN_FILENO) != getpgrp() || tcgetattr(STDIN_FILENO, &settings) != 0) return;
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&ends, signal);
  signals_ = gmem::UniqueFd(signalfd(-1, &ends, SFD_CLOEXEC));
  if (!signals_) return;
  sigprocmask(SIG_BLOCK, &ends, &signals_before_);
  before_ = settings;
  settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &settings);
}

Keyboard::~Keyboard() {
  if (!before_) return;
  tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
  sigprocmask(SIG_SETMASK, &signals_before_, nullptr);
}

std::optional<char> Keyboard::Wait(absl::Duration time) {
  if (!before_) {
    absl::SleepFor(time);
    return std::nullopt;
  }
  const auto ms = static_cast<int>(absl::ToInt64Milliseconds(
      std::clamp(time, absl::ZeroDuration(), absl::Milliseconds(INT_MAX))));
  pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                  {.fd = signals_.get(), .events = POLLIN, .revents = 0}};
  if (poll(fds, 2, ms) <= 0) return std::nullopt;
  if (fds[1].revents != 0) return kEnd;
  char key = kEnd;
  // The terminal may be gone.
  if (read(STDIN_FILENO, &key, 1) != 1) return kEnd;
  return key;
}

}  // namespace gmemctl
