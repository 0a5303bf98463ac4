// SPDX-License-Identifier: MIT OR Apache-2.0
// The output for the user: the guest's console line by line, with gmem's events and the VMM's own
// lines in between.
#ifndef GMEM_TOOLS_MINIVMM_CONSOLE_H_
#define GMEM_TOOLS_MINIVMM_CONSOLE_H_

#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "or_die.h"

namespace minivmm {

// Thread-safe.
class Console {
 public:
  // @read_events returns the lines of the events since its last call. The console holds its lock
  // then, so it can't be called from there.
  explicit Console(std::function<std::vector<std::string>()> read_events)
      : read_events_(std::move(read_events)) {}

  // Takes a byte from the guest.
  void Put(char byte) {
    absl::MutexLock guard(&lock_);
    if (byte == '\r') return;
    if (byte != '\n') line_ += byte;
    if (byte != '\n' && line_.size() < kMaxLine) return;
    PrintLocked("  guest | ", line_);
    if (absl::StartsWith(line_, "guest: ")) answer_ = line_;
    line_.clear();
  }

  // Prints a line of the VMM's own.
  void Print(absl::string_view line) {
    absl::MutexLock guard(&lock_);
    PrintLocked("", line);
  }

  // Takes the last line of the guest that begins with "guest: "; its program prints such lines.
  // Waits until there is one that begins with @prefix.
  std::string Await(absl::string_view prefix) {
    absl::MutexLock guard(&lock_);
    auto ready = [&]() ABSL_SHARED_LOCKS_REQUIRED(lock_) {
      return closed_ || absl::StartsWith(answer_, prefix);
    };
    lock_.Await(absl::Condition(&ready));
    if (absl::StartsWith(answer_, prefix)) return std::exchange(answer_, "");
    Die(absl::AbortedError(absl::StrCat("the guest ended before it printed ", prefix)));
  }

  // The guest prints no more: from now on, Await() ends the VMM.
  void Close() {
    absl::MutexLock guard(&lock_);
    closed_ = true;
  }

 private:
  // The limit of a line: a guest may print lines of any length, but must not use memory without
  // limit.
  static constexpr size_t kMaxLine = 1000;

  void PrintLocked(absl::string_view source, absl::string_view line)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    // An event must stand before the line about its effect.
    for (const std::string& event : read_events_()) absl::PrintF("  gmem  | %s\n", event);
    absl::PrintF("%s%s\n", source, line);
    std::fflush(stdout);
  }

  const std::function<std::vector<std::string>()> read_events_;

  absl::Mutex lock_;
  std::string line_ ABSL_GUARDED_BY(lock_), answer_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_CONSOLE_H_
