// SPDX-License-Identifier: Apache-2.0
// gmemctl monitor, top: changes as they happen.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "commands.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "nlohmann/json.hpp"
#include "output.h"

namespace gmemctl {
namespace {

// "lend vm 3 0x40000000..0x40000fff guestmem 12 offset 0x0"
std::string EventText(const gmem::Event& event) {
  std::string text(gmem::ToString(event.type));
  if (event.type == gmem::EventType::kGap || event.type == gmem::EventType::kOverrun) {
    absl::StrAppend(&text, " lost ",
                    event.lost == 0 ? std::string("events") : std::to_string(event.lost));
    return text;
  }
  if (event.window_id != 0) absl::StrAppend(&text, " window ", event.window_id);
  if (event.view_id != 0) absl::StrAppend(&text, " view ", event.view_id);
  if (event.vm_id != 0) absl::StrAppend(&text, " vm ", event.vm_id);
  if (event.guest_address) {
    absl::StrAppend(&text, " ", ToString(gmem::GuestRange{*event.guest_address, event.size}));
  }
  if (event.memory_id) absl::StrAppend(&text, " guestmem ", *event.memory_id);
  if (event.offset) absl::StrAppend(&text, " offset ", ToString(*event.offset));
  if (event.view_id != 0) absl::StrAppend(&text, " size ", ToString(event.size));
  absl::StrAppend(&text, NameText(event.name));
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

// Not the wall clock: a step of it would make the rates wrong.
using Clock = std::chrono::steady_clock;

struct Sample {
  Clock::time_point time;
  gmem::DeviceStats stats;
  std::vector<gmem::VmState> vms;
};

absl::StatusOr<Sample> TakeSample(gmem::Monitor& monitor) {
  Sample sample = {.time = Clock::now(), .stats = {}, .vms = {}};
  auto stats = monitor.Stats();
  if (!stats.ok()) return stats.status();
  auto vms = monitor.Vms();
  if (!vms.ok()) return vms.status();
  sample.stats = *stats;
  sample.vms = *std::move(vms);
  std::stable_sort(
      sample.vms.begin(), sample.vms.end(),
      [](const gmem::VmState& a, const gmem::VmState& b) { return a.lent_pages > b.lent_pages; });
  return sample;
}

// The increase of the module's counters per second.
struct Rates {
  double lends, reclaims, refused;
};

Rates RatesBetween(const Sample& before, const Sample& now) {
  const std::chrono::duration<double> elapsed = now.time - before.time;
  const auto rate = [&](uint64_t gmem::DeviceStats::*counter) {
    const uint64_t from = before.stats.*counter, to = now.stats.*counter;
    // Fewer than before: the module was unloaded and loaded again.
    return to < from ? 0.0 : static_cast<double>(to - from) / elapsed.count();
  };
  return {.lends = rate(&gmem::DeviceStats::lends),
          .reclaims = rate(&gmem::DeviceStats::reclaims),
          .refused = rate(&gmem::DeviceStats::refused)};
}

Json SampleJson(const Sample& sample, const std::optional<Rates>& rates) {
  Json vms = Json::array();
  for (const gmem::VmState& vm : sample.vms) vms.push_back(ToJson(vm));
  Json json = {{"stats", ToJson(sample.stats)}, {"vms", vms}};
  if (rates) {
    json["per_second"] = {
        {"lends", rates->lends}, {"reclaims", rates->reclaims}, {"refused", rates->refused}};
  }
  return json;
}

void PrintTable(const Sample& sample, const std::optional<Rates>& rates) {
  std::cout << absl::StreamFormat(
      "%s, %s, %s lent, %d leaked", tools::Counted(sample.stats.vms, "VM"),
      tools::Counted(sample.stats.guest_memories, "guestmem"),
      tools::Counted(sample.stats.lent_pages, "page"), sample.stats.leaked_pages);
  if (rates) {
    std::cout << absl::StreamFormat("; per second: %.0f lent, %.0f taken back, %.0f refused",
                                    rates->lends, rates->reclaims, rates->refused);
  }
  std::cout << "\n";
  std::cout << absl::StreamFormat("%6s %10s %-10s %-6s %8s %12s %10s %-15s %s\n", "VM", "PID",
                                  "PROVIDER", "POLICY", "BINDINGS", "LENT PAGES", "REFUSED",
                                  "COMMAND", "NAME");
  for (const gmem::VmState& vm : sample.vms) {
    std::cout << absl::StreamFormat("%6d %10d %-10s %-6s %8d %12d %10d %-15s %s\n", vm.id, vm.pid,
                                    vm.provider, gmem::ToString(vm.policy), vm.bindings,
                                    vm.lent_pages, vm.refused, tools::Printable(vm.command),
                                    tools::Printable(vm.name));
  }
  std::cout.flush();
}

}  // namespace

absl::StatusOr<int> RunMonitor(Arguments /*arguments*/) {
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  if (absl::Status status = monitor->Subscribe(); !status.ok()) return status;
  const uint64_t limit = absl::GetFlag(FLAGS_count);
  uint64_t printed = 0;
  // From here on no event is missed: tell a caller that waits for this moment.
  std::cerr << "gmemctl: waiting for events\n";
  while (true) {
    pollfd poll_fd = {.fd = monitor->fd(), .events = POLLIN, .revents = 0};
    if (poll(&poll_fd, 1, -1) < 0 && errno != EINTR) {
      return absl::ErrnoToStatus(errno, "can't wait for events");
    }
    const auto events = monitor->ReadEvents();
    if (!events.ok()) return events.status();
    for (const gmem::Event& event : *events) {
      if (WantsJson()) {
        PrintJson(ToJson(event));
      } else {
        std::cout << EventText(event) << std::endl;
      }
      if (!std::cout) return absl::DataLossError("can't write to standard output");
      if (++printed == limit) return 0;
    }
  }
}

absl::StatusOr<int> RunTop(Arguments /*arguments*/) {
  const absl::Duration interval = absl::GetFlag(FLAGS_interval);
  if (interval < absl::Milliseconds(10)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--interval ", absl::FormatDuration(interval), " is below 10ms"));
  }
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const bool is_terminal = isatty(STDOUT_FILENO) != 0 && !WantsJson();
  uint64_t iterations = absl::GetFlag(FLAGS_iterations);
  if (iterations == 0 && !is_terminal) iterations = 1;
  // A person wants a table at once, even without rates; a program wants complete tables.
  std::optional<Sample> before;
  if (!is_terminal) {
    auto first = TakeSample(*monitor);
    if (!first.ok()) return first.status();
    before = *std::move(first);
    absl::SleepFor(interval);
  }
  for (uint64_t i = 1;; ++i) {
    auto sample = TakeSample(*monitor);
    if (!sample.ok()) return sample.status();
    std::optional<Rates> rates;
    if (before) rates = RatesBetween(*before, *sample);
    if (WantsJson()) {
      PrintJson(SampleJson(*sample, rates));
    } else {
      // Cursor home, clear to the end. This mode needs no cleanup if a signal ends the program.
      if (is_terminal) std::cout << "\x1b[H\x1b[2J";
      PrintTable(*sample, rates);
    }
    if (!std::cout) return absl::DataLossError("can't write to standard output");
    if (i == iterations) return 0;
    absl::SleepFor(interval);
    before = *std::move(sample);
  }
}

}  // namespace gmemctl
