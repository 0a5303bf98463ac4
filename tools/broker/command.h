// SPDX-License-Identifier: MIT OR Apache-2.0
// The commands of the control socket.
#ifndef GMEM_TOOLS_BROKER_COMMAND_H_
#define GMEM_TOOLS_BROKER_COMMAND_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "guest.h"

namespace broker {

// An answer consists of lines. The last one begins with one of these words.
inline constexpr absl::string_view kOk = "ok";
inline constexpr absl::string_view kError = "error: ";

// The longest command, without the end of the line.
inline constexpr size_t kMaxCommand = 255;

// Carries out a command, a line without its end, and returns the answer, lines with their ends.
std::string RunCommand(Guest& guest, absl::string_view line);

}  // namespace broker

#endif  // GMEM_TOOLS_BROKER_COMMAND_H_
