// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/mapping.h"
#include "status_macros.h"

namespace minivmm {

namespace {

using gmem::Event;
using gmem::EventType;
using gmem::GuestRange;

// The module sends what has gathered every 10 ms.
constexpr int kQuietMs = 25;
constexpr absl::Duration kLongestWait = absl::Milliseconds(250);

// What the events of one line have in common: "reclaim (host)".
std::string Kind(const Event& event) {
  std::vector<absl::string_view> details;
  if (event.type == EventType::kRefused) {
    const gmem::EventAccess tried = event.access.value_or(gmem::EventAccess());
    details.push_back(tried.write ? "write" : tried.execute ? "execute" : "read");
  } else if (event.access) {
    details.push_back(event.access->mode == gmem::MapMode::kShare ? "share" : "lend");
  }
  if (event.cause) details.push_back(gmem::ToString(*event.cause));
  if (event.reason) details.push_back(gmem::ToString(*event.reason));
  const std::string error = event.error != 0 ? std::strerror(event.error) : "";
  if (!error.empty()) details.push_back(error);
  const absl::string_view type = gmem::ToString(event.type);
  if (details.empty()) return std::string(type);
  return absl::StrCat(type, " (", absl::StrJoin(details, ", "), ")");
}

// Sorted, and those that touch made one.
std::vector<GuestRange> Merge(std::vector<GuestRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const GuestRange& a, const GuestRange& b) { return a.start < b.start; });
  std::vector<GuestRange> merged;
  for (const GuestRange& range : ranges) {
    if (!merged.empty() && range.start <= merged.back().end()) {
      merged.back().size = std::max(merged.back().end(), range.end()) - merged.back().start;
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

std::string Line(const std::string& kind, absl::Span<const Event> events) {
  std::vector<GuestRange> ranges;
  uint64_t lost = 0;
  for (const Event& event : events) {
    lost += event.lost;
    if (event.guest_address) ranges.push_back({*event.guest_address, event.size});
  }
  if (lost != 0) return absl::StrCat(kind, " ", lost, " events lost");
  if (ranges.empty()) return kind;
  ranges = Merge(std::move(ranges));
  uint64_t bytes = 0;
  for (const GuestRange& range : ranges) bytes += range.size.value();
  const uint64_t nr_pages = bytes / gmem::HostPageSize().value();
  const GuestRange all = {ranges.front().start, ranges.back().end() - ranges.front().start};
  return absl::StrFormat("%s %s%s%s", kind, gmem::ToString(all),
                         nr_pages > 1 ? absl::StrCat(": ", nr_pages, " pages") : "",
                         ranges.size() > 1 ? absl::StrCat(" in ", ranges.size(), " ranges") : "");
}

}  // namespace

std::vector<std::string> Describe(absl::Span<const Event> events) {
  std::vector<std::string> lines;
  for (size_t begin = 0, end = 0; begin < events.size(); begin = end) {
    const std::string kind = Kind(events[begin]);
    do {
      ++end;
    } while (end < events.size() && events[end].vm_id == events[begin].vm_id &&
             Kind(events[end]) == kind);
    lines.push_back(Line(kind, events.subspan(begin, end - begin)));
  }
  return lines;
}

absl::StatusOr<Events> Events::Subscribe() {
  MINIVMM_ASSIGN_OR_RETURN(gmem::Monitor monitor, gmem::Monitor::Open());
  MINIVMM_RETURN_IF_ERROR(monitor.Subscribe());
  return Events(std::move(monitor));
}

std::vector<std::string> Events::Take() {
  const absl::Time end = absl::Now() + kLongestWait;
  std::vector<Event> all;
  pollfd readable = {.fd = monitor_.fd(), .events = POLLIN, .revents = 0};
  while (absl::Now() < end && poll(&readable, 1, kQuietMs) > 0) {
    absl::StatusOr<std::vector<Event>> events = monitor_.ReadEvents();
    if (!events.ok()) return {absl::StrCat("no events: ", events.status().ToString())};
    all.insert(all.end(), events->begin(), events->end());
  }
  return Describe(all);
}

}  // namespace minivmm
