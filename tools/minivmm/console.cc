// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <poll.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gmem/mapping.h"
#include "or_die.h"

namespace minivmm {

namespace {

// A guest may print lines of any length, and take no more memory for it.
constexpr size_t kMaxLine = 1000;

// The module sends what has gathered every 10 ms.
constexpr int kQuietMs = 25, kMaxReads = 10;

// What the events of one line have in common: "reclaim (host)".
std::string Kind(const gmem::Event& event) {
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

}  // namespace

std::vector<std::string> Describe(absl::Span<const gmem::Event> events) {
  std::vector<std::string> lines;
  while (!events.empty()) {
    const gmem::Event& first = events.front();
    std::string line = Kind(first);
    const size_t nr_events =
        std::ranges::find_if(events,
                             [&](const gmem::Event& event) {
                               return event.vm_id != first.vm_id || Kind(event) != line;
                             }) -
        events.begin();
    if (first.guest_address) {
      gmem::GuestRange all = {*first.guest_address, {}};
      uint64_t nr_pages = 0;
      for (const gmem::Event& event : events.first(nr_events)) {
        const gmem::GuestRange range = {event.guest_address.value_or(all.start), event.size};
        const gmem::GuestAddress end = std::max(all.end(), range.end());
        all.start = std::min(all.start, range.start);
        all.size = end - all.start;
        nr_pages += event.size.value() / gmem::HostPageSize().value();
      }
      absl::StrAppend(&line, " ", gmem::ToString(all));
      if (nr_pages > 1) absl::StrAppend(&line, ": ", nr_pages, " pages");
    }
    lines.push_back(std::move(line));
    events.remove_prefix(nr_events);
  }
  return lines;
}

Console::Console() : monitor_(OrDie(gmem::Monitor::Open())) {
  const absl::Status status = monitor_.Subscribe();
  if (!status.ok()) absl::PrintF("gmem's events aren't shown: %s\n", status.ToString());
}

void Console::PrintLocked(absl::string_view source, absl::string_view line) {
  // An event under way stands before the line that tells what it brought about.
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

void Console::Put(char byte) {
  absl::MutexLock guard(&lock_);
  if (byte == '\r') return;
  if (byte != '\n') line_ += byte;
  if (byte != '\n' && line_.size() < kMaxLine) return;
  PrintLocked("  guest | ", line_);
  if (absl::StartsWith(line_, "guest: ")) answer_ = line_;
  line_.clear();
}

void Console::Print(absl::string_view line) {
  absl::MutexLock guard(&lock_);
  PrintLocked("", line);
}

std::string Console::Await(absl::string_view prefix) {
  absl::MutexLock guard(&lock_);
  auto ready = [&]() ABSL_SHARED_LOCKS_REQUIRED(lock_) {
    return closed_ || absl::StartsWith(answer_, prefix);
  };
  lock_.Await(absl::Condition(&ready));
  if (!absl::StartsWith(answer_, prefix)) {
    Die(absl::AbortedError(absl::StrCat("the guest ended before it printed ", prefix)));
  }
  return std::exchange(answer_, "");
}

void Console::Close() {
  absl::MutexLock guard(&lock_);
  closed_ = true;
}

}  // namespace minivmm
