// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem's events, as lines for the user.
#ifndef GMEM_TOOLS_MINIVMM_EVENTS_H_
#define GMEM_TOOLS_MINIVMM_EVENTS_H_

#include <poll.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
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

// Needs exclusive access.
class Events {
 public:
  // Shows the events of the whole host. Without CAP_SYS_ADMIN it shows none.
  Events() : monitor_(OrDie(gmem::Monitor::Open())) {
    const absl::Status status = monitor_.Subscribe();
    if (!status.ok()) absl::PrintF("gmem's events aren't shown: %s\n", status.ToString());
  }

  // Returns the lines of the events since the last call. Waits a moment for events under way.
  std::vector<std::string> Read() {
    std::vector<gmem::Event> all;
    pollfd readable = {.fd = monitor_.fd(), .events = POLLIN, .revents = 0};
    for (int i = 0; i < kMaxReads && poll(&readable, 1, kQuietMs) > 0; ++i) {
      const std::vector<gmem::Event> events = OrDie(monitor_.ReadEvents());
      all.insert(all.end(), events.begin(), events.end());
    }
    return Describe(all);
  }

 private:
  // The module sends its queued events every 10 ms.
  static constexpr int kQuietMs = 25, kMaxReads = 10;

  gmem::Monitor monitor_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_EVENTS_H_
