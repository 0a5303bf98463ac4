// SPDX-License-Identifier: MIT OR Apache-2.0
// Texts for people.
#ifndef GMEM_TOOLS_BASE_TEXT_H_
#define GMEM_TOOLS_BASE_TEXT_H_

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tools {

// "1 page", "0 pages"; "2 accesses" with a @plural that isn't @noun and an "s".
inline std::string Counted(uint64_t count, absl::string_view noun, absl::string_view plural = {}) {
  if (count == 1) return absl::StrCat("1 ", noun);
  if (!plural.empty()) return absl::StrCat(count, " ", plural);
  return absl::StrCat(count, " ", noun, "s");
}

// Returns @text with "\x9b" and the like for each byte that isn't printable ASCII. A terminal obeys
// control characters, also those in UTF-8, and another user may have chosen the text: the name of a
// process, for example.
inline std::string Printable(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c >= ' ' && c <= '~') {
      result += c;
    } else {
      absl::StrAppend(&result, "\\x", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return result;
}

}  // namespace tools

#endif  // GMEM_TOOLS_BASE_TEXT_H_
