// SPDX-License-Identifier: Apache-2.0
// gmemctl: finds the subcommand, checks that it takes the flags, runs it.
#include <algorithm>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "commands.h"
#include "gmem/status.h"

namespace gmemctl {
namespace {

const std::vector<Command>& Commands() {
  static const auto& commands = *new std::vector<Command>{
      {"info", "", "abilities of the module", {"j", "p"}, RunInfo},
      {"list",
       "",
       "VMs, their bindings and window descriptors; guestmems, their pages by state and views",
       {"vm", "name", "j", "p"},
       RunList},
      {"stats",
       "",
       "counters of the module, also for Prometheus",
       {"prometheus", "openmetrics", "output", "j", "p"},
       RunStats},
      {"monitor", "", "a line for each event", {"count", "j", "p"}, RunMonitor},
      {"top", "", "VMs by lent memory, repeatedly", {"interval", "iterations", "j", "p"}, RunTop},
      {"map",
       "",
       "a picture of a VM's guest address space, and the processes that hold it",
       {"vm", "name", "width", "svg", "j", "p"},
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
  };
  return commands;
}

const Command* FindCommand(absl::string_view name) {
  for (const Command& command : Commands()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

void PrintOverview(std::ostream& out) {
  out << "usage: gmemctl SUBCOMMAND [FLAG]... [ARGUMENT]...\n\n";
  for (const Command& command : Commands()) {
    out << absl::StrFormat("  %-8s %s\n", command.name, command.summary);
  }
  out << "\n\"gmemctl SUBCOMMAND --help\" lists flags; gmemctl-SUBCOMMAND(8) says more.\n";
}

void PrintHelp(const Command& command) {
  std::cout << "usage: gmemctl " << command.name << " [FLAG]..."
            << (command.arguments.empty() ? "" : " ") << command.arguments << "\n\n"
            << command.summary << "\n\n";
  for (const absl::string_view name : command.flags) {
    const absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(name);
    const std::string dashed = absl::StrCat(name.size() == 1 ? "-" : "--", name);
    std::cout << absl::StrFormat("  %-13s %s\n", dashed, flag->Help());
  }
}

int NoSuchCommand(absl::string_view name) {
  std::cerr << "gmemctl: there is no subcommand \"" << name << "\": \"gmemctl help\" lists them\n";
  return kExitUsage;
}

// Prints help if the user asks for it, and returns the exit status then. Abseil's own help lists
// every flag of the program; this one lists the flags of one subcommand.
std::optional<int> HandleHelp(const std::vector<absl::string_view>& words) {
  const auto end = std::find(words.begin(), words.end(), "--");
  const bool asked = std::any_of(words.begin(), end, [](absl::string_view word) {
    return word == "--help" || word == "-help" || word == "-h";
  });
  const bool is_help = !words.empty() && words[0] == "help";
  if (!asked && !is_help) return std::nullopt;
  const auto name =
      std::find_if(words.begin() + (is_help ? 1 : 0), end,
                   [](absl::string_view word) { return !absl::StartsWith(word, "-"); });
  if (name == end) {
    PrintOverview(std::cout);
    return 0;
  }
  const Command* const command = FindCommand(*name);
  if (command == nullptr) return NoSuchCommand(*name);
  PrintHelp(*command);
  return 0;
}

absl::Status CheckFlags(const Command& command) {
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    // Abseil's own flags aren't in the list of a subcommand, so allow them here.
    if (!absl::StrContains(flag->Filename(), "gmemctl") ||
        flag->CurrentValue() == flag->DefaultValue() ||
        std::find(command.flags.begin(), command.flags.end(), name) != command.flags.end() ||
        ((name == "json" || name == "pretty") &&
         std::find(command.flags.begin(), command.flags.end(), "j") != command.flags.end())) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(command.name, " takes no flag ", name,
                                                   ": see \"gmemctl ", command.name, " --help\""));
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  if (const auto status = HandleHelp({argv + 1, argv + argc})) return *status;
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  if (words.size() < 2) {
    std::cerr << "gmemctl: a subcommand is missing\n";
    PrintOverview(std::cerr);
    return kExitUsage;
  }
  const Command* const command = FindCommand(words[1]);
  if (command == nullptr) return NoSuchCommand(words[1]);
  const Arguments arguments(words.data() + 2, words.size() - 2);
  absl::Status status = CheckFlags(*command);
  if (status.ok() && command->arguments.empty() && !arguments.empty()) {
    status = absl::InvalidArgumentError(
        absl::StrCat(command->name, " takes no argument: \"", arguments[0], "\" must be a flag"));
  }
  if (!status.ok()) {
    std::cerr << "gmemctl: " << status.message() << "\n";
    return kExitUsage;
  }
  const absl::StatusOr<int> exit_status = command->run(arguments);
  if (!exit_status.ok()) {
    std::cout.flush();
    std::cerr << "gmemctl: " << exit_status.status().message() << "\n";
    // InvalidArgument is about the command line, unless it comes from a system call.
    return absl::IsInvalidArgument(exit_status.status()) && !gmem::GetErrno(exit_status.status())
               ? kExitUsage
               : kExitFailed;
  }
  if (!std::cout.flush()) {
    std::cerr << "gmemctl: can't write to standard output\n";
    return kExitFailed;
  }
  return *exit_status;
}

}  // namespace
}  // namespace gmemctl

int main(int argc, char** argv) { return gmemctl::Main(argc, argv); }
