// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl monitor: events as they come.
#include "gmem/monitor.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "commands.h"
#include "event_filter.h"
#include "flags.h"
#include "names.h"
#include "nlohmann/json.hpp"
#include "objects.h"
#include "output.h"

namespace gmemctl {
namespace {

// "lend vm 3 "web-1" 0x40000000..0x40000fff guestmem 12 "ram" offset 0x0"
std::string EventText(const gmem::Event& event, const Names& names) {
  std::string text(gmem::ToString(event.type));
  if (event.type == gmem::EventType::kGap || event.type == gmem::EventType::kOverrun) {
    absl::StrAppend(&text, " lost ",
                    event.lost == 0 ? std::string("events") : std::to_string(event.lost));
    return text;
  }
  const auto append = [&](const char* kind, uint64_t id, const std::string& name) {
    absl::StrAppend(&text, " ", kind, " ", id, NameText(name));
  };
  if (event.window_id != 0) append("window", event.window_id, names.OfWindow(event.window_id));
  if (event.view_id != 0) append("view", event.view_id, names.OfView(event.view_id));
  if (event.vm_id != 0) append("vm", event.vm_id, names.OfVm(event.vm_id));
  if (event.guest_address) {
    absl::StrAppend(&text, " ", ToString(gmem::GuestRange{*event.guest_address, event.size}));
  }
  if (event.memory_id) append("guestmem", *event.memory_id, names.OfMemory(*event.memory_id));
  if (event.offset) absl::StrAppend(&text, " offset ", ToString(*event.offset));
  if (event.view_id != 0) absl::StrAppend(&text, " size ", ToString(event.size));
  const Json json = ToJson(event);
  for (const char* const key :
       {"window_kind", "mode", "access", "cause", "reason", "error", "count"}) {
    if (!json.contains(key)) continue;
    const Json& value = json[key];
    absl::StrAppend(&text, " ", key, " ",
                    value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

Json EventJson(const gmem::Event& event, const Names& names) {
  Json json = ToJson(event);
  const auto add = [&](const char* key, const std::string& name) {
    if (!name.empty()) json[key] = name;
  };
  if (event.vm_id != 0) add("vm_name", names.OfVm(event.vm_id));
  if (event.memory_id) add("mem_name", names.OfMemory(*event.memory_id));
  if (event.window_id != 0) add("window_name", names.OfWindow(event.window_id));
  if (event.view_id != 0) add("view_name", names.OfView(event.view_id));
  return json;
}

void Print(const gmem::Event& event, const Names& names) {
  const bool with_time = absl::GetFlag(FLAGS_t) || absl::GetFlag(FLAGS_timestamps);
  const absl::Time now = absl::Now();
  if (!WantsJson()) {
    if (with_time) {
      std::cout << absl::FormatTime("%Y-%m-%d %H:%M:%E6S ", now, absl::LocalTimeZone());
    }
    std::cout << EventText(event, names) << std::endl;
    return;
  }
  Json json;
  if (with_time) {
    json["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6S%Ez", now, absl::LocalTimeZone());
  }
  json.update(EventJson(event, names));
  PrintJson(json);
}

// Waits until events have come; false if @end comes before.
absl::StatusOr<bool> Wait(const gmem::Monitor& monitor, absl::Time end) {
  while (true) {
    const absl::Duration rest = end - absl::Now();
    if (rest <= absl::ZeroDuration()) return false;
    // Round up, so that the time is over when poll() returns. The longest wait for poll() is weeks.
    const int64_t ms = absl::ToInt64Milliseconds(
        std::min(rest + absl::Milliseconds(1), absl::Milliseconds(INT_MAX)));
    pollfd poll_fd = {.fd = monitor.fd(), .events = POLLIN, .revents = 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "can't wait for events");
    }
  }
}

}  // namespace

absl::StatusOr<int> RunMonitor(Arguments /*arguments*/) {
  const absl::Duration duration = absl::GetFlag(FLAGS_duration);
  if (duration < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--duration=", absl::FormatDuration(duration), " is below 0"));
  }
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  if (absl::Status status = monitor->Subscribe(); !status.ok()) return status;
  // After the subscription, so that each object is in this list or has an event.
  auto objects = AskForObjects(*monitor);
  if (!objects.ok()) return objects.status();
  Names names(*objects);
  EventFilter filter(Selection::FromFlags(), *std::move(objects), absl::GetFlag(FLAGS_event));

  const uint64_t limit = absl::GetFlag(FLAGS_count);
  const absl::Time end =
      duration == absl::ZeroDuration() ? absl::InfiniteFuture() : absl::Now() + duration;
  uint64_t printed = 0;
  // From here on no event is missed: tell a caller that waits for this moment.
  std::cerr << "gmemctl: waiting for events\n";
  while (true) {
    const auto ready = Wait(*monitor, end);
    if (!ready.ok()) return ready.status();
    if (!*ready) return 0;
    const auto events = monitor->ReadEvents();
    if (!events.ok()) return events.status();
    for (const gmem::Event& event : *events) {
      names.Add(event);
      const bool selected = filter.Selects(event, *monitor);
      if (selected) Print(event, names);
      names.Remove(event);
      if (!std::cout) return absl::DataLossError("can't write to standard output");
      if (selected && ++printed == limit) return 0;
    }
  }
}

}  // namespace gmemctl
