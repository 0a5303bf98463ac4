// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl: finds the subcommand, checks that it takes the flags, runs it.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/program.h"
#include "commands.h"

namespace gmemctl {
namespace {

const std::vector<Command>& Commands() {
  static const auto& commands = *new std::vector<Command>{
      {"info", "", "abilities of the module", {"j", "p"}, RunInfo},
      {"list",
       "",
       "VMs, their bindings and window descriptors; guestmems, their pages by state and views",
       {"vm", "name", "pid", "j", "p"},
       RunList},
      {"stats",
       "",
       "counters of the module, also for Prometheus",
       {"prometheus", "openmetrics", "output", "j", "p"},
       RunStats},
      {"monitor",
       "",
       "a line for each event",
       {"vm", "name", "pid", "event", "t", "count", "duration", "j", "p"},
       RunMonitor},
      {"top",
       "",
       "VMs by lent memory or another column, repeatedly",
       {"sort", "interval", "iterations", "vm", "name", "pid", "j", "p"},
       RunTop},
      {"faults",
       "",
       "the accesses of guests that were refused last",
       {"vm", "name", "pid", "j", "p"},
       RunFaults},
      {"map",
       "",
       "a picture of a VM's guest address space, and the processes that hold it",
       {"vm", "name", "pid", "width", "svg", "j", "p"},
       RunMap},
      {"exec",
       "-- COMMAND [ARGUMENT]...",
       "run a command with new guest memory; {} in an argument becomes its descriptor's number",
       {"size", "hugepages", "fd", "name"},
       RunExec},
      {"reclaim",
       "",
       "take lent pages of a VM back",
       {"vm", "name", "pid", "fd", "address", "size", "j", "p"},
       RunReclaim},
      {"policy",
       "[allow|scrub|deny]",
       "what a host access to lent pages does; or set that for a VM",
       {"vm", "name", "pid", "fd", "j", "p"},
       RunPolicy},
  };
  return commands;
}

const Command* FindCommand(absl::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

std::string Overview() {
  std::string text = "usage: gmemctl SUBCOMMAND [FLAG]... [ARGUMENT]...\n\n";
  for (const Command& command : Commands()) {
    absl::StrAppendFormat(&text, "  %-8s %s\n", command.name, command.summary);
  }
  absl::StrAppend(&text, "\n\"gmemctl SUBCOMMAND --help\" lists flags; ",
                  "gmemctl-SUBCOMMAND(8) says more.\n");
  return text;
}

absl::Status NoSuchCommand(absl::string_view name) {
  return absl::InvalidArgumentError(
      absl::StrCat("there is no subcommand \"", name, "\": \"gmemctl help\" lists them"));
}

absl::StatusOr<int> Help(Arguments words) {
  if (!words.empty() && absl::string_view(words[0]) == "help") words.remove_prefix(1);
  if (words.empty()) {
    std::cout << Overview();
    return 0;
  }
  const Command* const command = FindCommand(words[0]);
  if (command == nullptr) return NoSuchCommand(words[0]);
  std::cout << "usage: gmemctl " << command->name << " [FLAG]..."
            << (command->arguments.empty() ? "" : " ") << command->arguments << "\n\n"
            << command->summary << "\n\n"
            << tools::FlagsHelp(command->flags);
  return 0;
}

// The one-letter name of a flag that has a long one, too.
absl::string_view ShortName(absl::string_view name) {
  // Each subcommand that takes -j takes -p, too.
  if (name == "json" || name == "pretty") return "j";
  return name == "timestamps" ? "t" : name;
}

absl::Status CheckFlags(const Command& command) {
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (flag->CurrentValue() == flag->DefaultValue() ||
        std::find(command.flags.begin(), command.flags.end(), ShortName(name)) !=
            command.flags.end()) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(command.name, " takes no flag ", name,
                                                   ": see \"gmemctl ", command.name, " --help\""));
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(Arguments words) {
  if (words.empty()) {
    std::cerr << Overview();
    return absl::InvalidArgumentError("a subcommand is missing");
  }
  if (absl::string_view(words[0]) == "help") return Help(words);
  const Command* const command = FindCommand(words[0]);
  if (command == nullptr) return NoSuchCommand(words[0]);
  words.remove_prefix(1);
  if (absl::Status status = CheckFlags(*command); !status.ok()) return status;
  if (command->arguments.empty() && !words.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(command->name, " takes no argument: \"", words[0], "\" must be a flag"));
  }
  return command->run(words);
}

}  // namespace
}  // namespace gmemctl

int main(int argc, char** argv) {
  return tools::RunProgram({.name = "gmemctl", .run = gmemctl::Run, .help = gmemctl::Help}, argc,
                           argv);
}
