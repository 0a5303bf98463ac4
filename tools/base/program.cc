// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/program.h"

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/exit_status.h"
#include "base/text.h"
#include "gmem/status.h"

namespace tools {
namespace {

// A flag's name as the user writes it. In a program, a name has no dashes.
std::string Dashed(absl::string_view name) {
  return absl::StrCat(name.size() == 1 ? "-" : "--", absl::StrReplaceAll(name, {{"_", "-"}}));
}

absl::CommandLineFlag* Find(absl::string_view name) {
  return absl::FindCommandLineFlag(absl::StrReplaceAll(name, {{"-", "_"}}));
}

bool IsBool(const absl::CommandLineFlag& flag) { return flag.IsOfType<bool>(); }

// Abseil's text repeats the value and the name before the reason. Its own types give no reason.
std::string Reason(const absl::CommandLineFlag& flag, absl::string_view value,
                   absl::string_view error) {
  const std::string prefix =
      absl::StrCat("Illegal value '", value, "' specified for flag '", flag.Name(), "'");
  if (absl::ConsumePrefix(&error, prefix)) absl::ConsumePrefix(&error, "; ");
  if (!error.empty()) return std::string(error);
  if (IsBool(flag)) return "use true or false";
  if (flag.IsOfType<absl::Duration>()) return "use a time such as 500ms, 2s or 1m";
  return "it isn't valid";
}

absl::Status Set(absl::CommandLineFlag& flag, absl::string_view value) {
  std::string error;
  if (!value.empty() || flag.IsOfType<std::string>()) {
    if (flag.ParseFrom(value, &error)) return absl::OkStatus();
  } else {
    error = "the value is empty";
  }
  return absl::InvalidArgumentError(
      absl::StrCat(Dashed(flag.Name()), "=", value, ": ", Reason(flag, value, error)));
}

class Parser {
 public:
  Parser(const Program& program, Words arguments) : program_(program), arguments_(arguments) {}

  absl::Status Parse() {
    while (next_ < arguments_.size()) {
      const absl::string_view word = arguments_[next_++];
      absl::Status status;
      if (word == "--") {
        words_.insert(words_.end(), arguments_.begin() + next_, arguments_.end());
        break;
      }
      if (word == "--help" || word == "-h") {
        wants_help_ = true;
      } else if (word == "--version") {
        wants_version_ = true;
      } else if (absl::StartsWith(word, "--")) {
        status = Long(word.substr(2));
      } else if (word.size() > 1 && word[0] == '-') {
        status = Letters(word.substr(1));
      } else {
        words_.push_back(arguments_[next_ - 1]);
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const std::vector<char*>& words() const { return words_; }
  bool wants_help() const { return wants_help_; }
  bool wants_version() const { return wants_version_; }

 private:
  absl::Status NoSuchFlag(absl::string_view dashed) const {
    return absl::InvalidArgumentError(absl::StrCat("there is no flag ", dashed, ": \"",
                                                   program_.name, " --help\" lists the flags"));
  }

  absl::Status Long(absl::string_view word) {
    const size_t equals = word.find('=');
    const absl::string_view name = word.substr(0, equals);
    std::optional<absl::string_view> value;
    if (equals != absl::string_view::npos) value = word.substr(equals + 1);

    absl::CommandLineFlag* flag = Find(name);
    if (flag == nullptr && !value && absl::StartsWith(name, "no")) {
      flag = Find(name.substr(2));
      if (flag != nullptr && IsBool(*flag)) return Set(*flag, "false");
      flag = nullptr;
    }
    if (flag == nullptr) return NoSuchFlag(absl::StrCat("--", name));
    if (!value && IsBool(*flag)) value = "true";
    if (!value && next_ < arguments_.size()) value = arguments_[next_++];
    if (!value) return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    return Set(*flag, *value);
  }

  absl::Status Letters(absl::string_view letters) const {
    for (size_t i = 0; i < letters.size(); ++i) {
      absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(letters.substr(i, 1));
      if (flag == nullptr || !IsBool(*flag)) return NoSuchFlag(absl::StrCat("-", letters));
      if (absl::Status status = Set(*flag, "true"); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const Program& program_;
  const Words arguments_;
  size_t next_ = 0;
  std::vector<char*> words_;
  bool wants_help_ = false;
  bool wants_version_ = false;
};

absl::StatusOr<int> Help(const Program& program) {
  std::vector<absl::string_view> names;
  for (const auto& [name, flag] : absl::GetAllFlags()) names.push_back(name);
  std::sort(names.begin(), names.end());
  std::cout << "usage: " << absl::StrReplaceAll(program.usage, {{"\n", "\n       "}}) << "\n\n"
            << program.summary << "\n\n"
            << FlagsHelp(names);
  return 0;
}

absl::StatusOr<int> Run(const Program& program, Words arguments) {
  Parser parser(program, arguments);
  if (absl::Status status = parser.Parse(); !status.ok()) return status;
  if (parser.wants_version()) {
    std::cout << program.name << " " << Version() << "\n";
    return 0;
  }
  if (parser.wants_help()) {
    return program.help != nullptr ? program.help(parser.words()) : Help(program);
  }
  return program.run(parser.words());
}

}  // namespace

int RunProgram(const Program& program, int argc, char** argv) {
  // A program may be started without even its own name.
  const Words all(argv, static_cast<size_t>(argc));
  const absl::StatusOr<int> exit_status = Run(program, all.subspan(std::min<size_t>(1, argc)));
  const bool is_written = static_cast<bool>(std::cout.flush());
  if (!exit_status.ok()) {
    PrintError(program.name, exit_status.status().message());
    const bool is_usage =
        absl::IsInvalidArgument(exit_status.status()) && !gmem::GetErrno(exit_status.status());
    return is_usage ? kExitUsage : kExitFailed;
  }
  if (!is_written) {
    PrintError(program.name, "can't write to standard output");
    return kExitFailed;
  }
  return *exit_status;
}

void PrintError(absl::string_view name, absl::string_view message) {
  std::cerr << name << ": " << Printable(message) << std::endl;
}

std::string FlagsHelp(const std::vector<absl::string_view>& names) {
  size_t width = 0;
  for (const absl::string_view name : names) width = std::max(width, Dashed(name).size());
  std::string text;
  for (const absl::string_view name : names) {
    const absl::CommandLineFlag* const flag = absl::FindCommandLineFlag(name);
    absl::StrAppendFormat(&text, "  %-*s %s", width, Dashed(name), flag->Help());
    const std::string value = flag->DefaultValue();
    if (!value.empty() && !IsBool(*flag)) absl::StrAppend(&text, "; default: ", value);
    absl::StrAppend(&text, "\n");
  }
  return text;
}

absl::string_view Version() { return GMEM_VERSION; }

}  // namespace tools
