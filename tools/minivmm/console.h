// SPDX-License-Identifier: Apache-2.0
// The output for the user: the guest's console line by line, with gmem's events and the VMM's own
// lines in between.
#ifndef GMEM_TOOLS_MINIVMM_CONSOLE_H_
#define GMEM_TOOLS_MINIVMM_CONSOLE_H_

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "or_die.h"

namespace minivmm {

// Returns the kind of an event: "reclaim (host)".
inline std::string Kind(const gmem::Event& event) {
  std::vector<absl::string_view> details;
  if (event.access && event.type == gmem::EventType::kRefused) {
    details.push_back(event.access->write ? "write" : event.access->execute ? "execute" : "read");
  } else if (event.access) {
    details.push_back(event.access->mode == gmem::MapMode::kShare ? "share" : "lend");
  }
  if (event.cause) details.push_back(gmem::ToString(*event.cause));
  if (event.reason) details.push_back(gmem::ToString(*event.reason));
  if (event.error != 0) details.push_back(std::strerror(event.error));
  const absl::string_view type = gmem::ToString(event.type);
  if (details.empty()) return std::string(type);
  return absl::StrCat(type, " (", absl::StrJoin(details, ", "), ")");
}

// Returns a line for each event. Events of one kind that follow each other share a line, because a
// guest that boots takes thousands of pages, one at a time.
inline std::vector<std::string> Describe(absl::Span<const gmem::Event> events) {
  std::vector<std::string> lines;
  for (auto event = events.begin(); event != events.end();) {
    const std::string kind = Kind(*event);
    gmem::GuestAddress start(std::numeric_limits<uint64_t>::max()), end(0);
    uint64_t nr_pages = 0;
    for (; event != events.end() && Kind(*event) == kind; ++event) {
      if (!event->guest_address) continue;
      start = std::min(start, *event->guest_address);
      end = std::max(end, *event->guest_address + event->size);
      nr_pages += event->size.value() / gmem::HostPageSize().value();
    }
    lines.push_back(kind);
    if (nr_pages > 0) {
      absl::StrAppend(&lines.back(), " ", gmem::ToString(gmem::GuestRange{start, end - start}));
    }
    if (nr_pages > 1) absl::StrAppend(&lines.back(), ": ", nr_pages, " pages");
  }
  return lines;
}

// Thread-safe.
class Console {
 public:
  // Shows the events of the whole host. Without CAP_SYS_ADMIN it shows none.
  Console() : monitor_(OrDie(gmem::Monitor::Open())) {
    const absl::Status status = monitor_.Subscribe();
    if (!status.ok()) absl::PrintF("gmem's events aren't shown: %s\n", status.ToString());
  }

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
  // The module sends its queued events every 10 ms.
  static constexpr int kQuietMs = 25, kMaxReads = 10;

  void PrintLocked(absl::string_view source, absl::string_view line)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    // Wait for events under way: an event must stand before the line about its effect.
    std::vector<gmem::Event> all;
    pollfd readable = {.fd = monitor_.fd(), .events = POLLIN, .revents = 0};
    for (int i = 0; i < kMaxReads && poll(&readable, 1, kQuietMs) > 0; ++i) {
      const std::vector<gmem::Event> events = OrDie(monitor_.ReadEvents());
      all.insert(all.end(), events.begin(), events.end());
    }
    for (const std::string& event : Describe(all)) absl::PrintF("  gmem  | %s\n", event);
    absl::PrintF("%s%s\n", source, line);
    std::fflush(stdout);
  }

  absl::Mutex lock_;
  gmem::Monitor monitor_ ABSL_GUARDED_BY(lock_);
  std::string line_ ABSL_GUARDED_BY(lock_), answer_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_CONSOLE_H_
