// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl top: VMs by a column, repeatedly.
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <optional>
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
#include "keyboard.h"
#include "nlohmann/json.hpp"
#include "objects.h"
#include "output.h"
#include "sort_key.h"

namespace gmemctl {
namespace {

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
  sample.stats = *stats;
  Objects objects;
  auto vms = monitor.Vms();
  if (!vms.ok()) return vms.status();
  objects.vms = *std::move(vms);
  const Selection selection = Selection::FromFlags();
  if (!selection.is_all()) {
    // The name of a window descriptor selects its VM. An older module has none.
    if (auto windows = monitor.Windows(); windows.ok()) objects.windows = *std::move(windows);
    selection.Apply(&objects);
  }
  sample.vms = std::move(objects.vms);
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
  std::cout << absl::StreamFormat("%6s %10s %-8s %-6s %8s %12s %10s %7s %-15s %s\n", "VM", "PID",
                                  "PROVIDER", "POLICY", "BINDINGS", "LENT PAGES", "REFUSED",
                                  "WAITERS", "COMMAND", "NAME");
  for (const gmem::VmState& vm : sample.vms) {
    std::cout << absl::StreamFormat("%6d %10d %-8s %-6s %8d %12d %10d %7d %-15s %s\n", vm.id,
                                    vm.pid, vm.provider, gmem::ToString(vm.policy), vm.bindings,
                                    vm.lent_pages, vm.refused, Waiters(vm),
                                    tools::Printable(vm.command), tools::Printable(vm.name));
  }
  std::cout.flush();
}

void Show(Sample& sample, const std::optional<Rates>& rates, SortKey sort, bool is_terminal) {
  Sort(sort, &sample.vms);
  if (WantsJson()) {
    PrintJson(SampleJson(sample, rates));
    return;
  }
  // Cursor home, clear to the end.
  if (is_terminal) std::cout << "\x1b[H\x1b[2J";
  PrintTable(sample, rates);
  if (is_terminal) {
    std::cout << "sorted by " << AbslUnparseFlag(sort)
              << "; keys: the first letter of a column sorts, q ends" << std::endl;
  }
}

// Obeys keys for the time of an interval; false if one of them ends the program.
bool ObeyKeys(Keyboard& keyboard, absl::Duration interval, Sample& sample,
              const std::optional<Rates>& rates, SortKey* sort) {
  const absl::Time end = absl::Now() + interval;
  for (absl::Time now = absl::Now(); now < end; now = absl::Now()) {
    const std::optional<char> key = keyboard.Wait(end - now + absl::Milliseconds(1));
    if (!key) break;
    if (*key == 'q' || *key == Keyboard::kEnd) return false;
    if (const auto chosen = SortKeyOf(*key)) {
      *sort = *chosen;
      Show(sample, rates, *sort, /*is_terminal=*/true);
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<int> RunTop(Arguments /*arguments*/) {
  const absl::Duration interval = absl::GetFlag(FLAGS_interval);
  if (interval < absl::Milliseconds(10)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--interval ", absl::FormatDuration(interval), " is below 10ms"));
  }
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const bool is_terminal = isatty(STDOUT_FILENO) != 0 && !WantsJson();
  SortKey sort = absl::GetFlag(FLAGS_sort);
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
  std::optional<Keyboard> keyboard;
  if (is_terminal) keyboard.emplace();
  for (uint64_t i = 1;; ++i) {
    auto sample = TakeSample(*monitor);
    if (!sample.ok()) return sample.status();
    std::optional<Rates> rates;
    if (before) rates = RatesBetween(*before, *sample);
    Show(*sample, rates, sort, is_terminal);
    if (!std::cout) return absl::DataLossError("can't write to standard output");
    if (i == iterations) return 0;
    if (!keyboard) {
      absl::SleepFor(interval);
    } else if (!ObeyKeys(*keyboard, interval, *sample, rates, &sort)) {
      return 0;
    }
    before = *std::move(sample);
  }
}

}  // namespace gmemctl
