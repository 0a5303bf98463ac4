// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <cstdio>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace minivmm {

namespace {

// A guest may print whatever it likes, and take no more memory for it.
constexpr size_t kMaxLine = 1000, kMaxLines = 1000;

}  // namespace

void Console::PrintLocked(absl::string_view source, absl::string_view line) {
  for (const std::string& event : events_()) absl::PrintF("  gmem  | %s\n", event);
  absl::PrintF("%s%s\n", source, line);
  std::fflush(stdout);
}

void Console::Put(char byte) {
  absl::MutexLock guard(&lock_);
  if (byte == '\r') return;
  if (byte != '\n') line_ += byte;
  if (byte != '\n' && line_.size() < kMaxLine) return;
  PrintLocked("  guest | ", line_);
  if (lines_.size() == kMaxLines) lines_.pop_front();
  lines_.push_back(std::move(line_));
  line_.clear();
}

void Console::Print(absl::string_view line) {
  absl::MutexLock guard(&lock_);
  PrintLocked("", line);
}

absl::StatusOr<std::string> Console::Expect(absl::string_view prefix) {
  absl::MutexLock guard(&lock_);
  for (;;) {
    while (!lines_.empty()) {
      std::string line = std::move(lines_.front());
      lines_.pop_front();
      if (absl::StartsWith(line, prefix)) return line;
    }
    if (closed_) {
      return absl::FailedPreconditionError(
          absl::StrCat("the guest ended before it printed \"", prefix, "\": ", why_.ToString()));
    }
    auto progress = [this]()
                        ABSL_SHARED_LOCKS_REQUIRED(lock_) { return closed_ || !lines_.empty(); };
    lock_.Await(absl::Condition(&progress));
  }
}

void Console::Close(const absl::Status& why) {
  absl::MutexLock guard(&lock_);
  if (!line_.empty()) PrintLocked("  guest | ", line_);
  line_.clear();
  closed_ = true;
  why_ = why;
}

}  // namespace minivmm
