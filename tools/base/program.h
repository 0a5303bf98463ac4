// SPDX-License-Identifier: MIT OR Apache-2.0
// The manners that all programs here share: how flags are written, --help and --version, messages
// that begin with the program's name, and exit statuses.
//
// A program defines its flags by ABSL_FLAG and reads them by absl::GetFlag(). This file parses the
// command line instead of absl::ParseCommandLine(), which exits with 1 on a wrong flag, doesn't
// name the program, and knows no words of several letters.
#ifndef GMEM_TOOLS_BASE_PROGRAM_H_
#define GMEM_TOOLS_BASE_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tools {

// The words of a command line that aren't flags, without the program's name.
using Words = absl::Span<char* const>;

struct Program {
  absl::string_view name;
  // Does the work. Returns the exit status.
  absl::StatusOr<int> (*run)(Words words);
  // For --help: the ways to call the program, a line each ("gmem-broker run --size=SIZE"), and what
  // it is. All flags follow.
  absl::string_view usage = {};
  absl::string_view summary = {};
  // Answers --help in another way. Returns the exit status.
  absl::StatusOr<int> (*help)(Words words) = nullptr;
};

// Sets the flags and runs the program. Returns the exit status, after it printed the error, if
// there was one: kExitUsage if the code is InvalidArgument, unless a system call failed; else
// kExitFailed. Output that can't be written is an error.
//
// A flag is "--name=value" or "--name value"; "--name" or "--noname" if it is a bool. A name of
// several words has dashes, where ABSL_FLAG has underscores, which count, too. Bools with a name of
// one letter may be combined: "-jp" is "-j -p". Words after "--" are no flags.
int RunProgram(const Program& program, int argc, char** argv);

// Prints "NAME: MESSAGE" and a newline to standard error. Escapes what isn't printable.
void PrintError(absl::string_view name, absl::string_view message);

// Returns a line for each of these flags: its name, its help and its default.
std::string FlagsHelp(const std::vector<absl::string_view>& names);

// "0.1.0": the version of the module, the library and the tools in this tree.
absl::string_view Version();

}  // namespace tools

#endif  // GMEM_TOOLS_BASE_PROGRAM_H_
