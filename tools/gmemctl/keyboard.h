// SPDX-License-Identifier: MIT OR Apache-2.0
// Single keys from the terminal.
#ifndef GMEMCTL_KEYBOARD_H_
#define GMEMCTL_KEYBOARD_H_

#include <termios.h>

#include <csignal>
#include <optional>

#include "absl/time/time.h"
#include "gmem/unique_fd.h"

namespace gmemctl {

// While this lives, standard input gives each key at once and without an echo, if it is a terminal.
// Signals that would end the process are returned as kEnd instead, so that the terminal gets its
// old settings back.
class Keyboard {
 public:
  static constexpr char kEnd = '\3';

  Keyboard();
  ~Keyboard();
  Keyboard(const Keyboard&) = delete;
  Keyboard& operator=(const Keyboard&) = delete;

  // Returns the next key, or nothing if none comes in this time.
  std::optional<char> Wait(absl::Duration time);

 private:
  // Nothing if standard input is no terminal that this process may use.
  std::optional<termios> before_;
  sigset_t signals_before_ = {};
  gmem::UniqueFd signals_;
};

}  // namespace gmemctl

#endif  // GMEMCTL_KEYBOARD_H_
