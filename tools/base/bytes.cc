// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/bytes.h"

#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

bool ParseBytes(absl::string_view text, uint64_t* bytes, std::string* error) {
  absl::string_view digits = absl::StripSuffix(text, "iB");
  int shift = 0;
  if (!digits.empty() && !absl::StartsWith(digits, "0x")) {
    const size_t unit = absl::string_view("KMGT").find(digits.back());
    if (unit != absl::string_view::npos) {
      shift = 10 * (static_cast<int>(unit) + 1);
      digits.remove_suffix(1);
    }
  }
  uint64_t value = 0;
  const bool is_hex = absl::StartsWith(digits, "0x");
  if (!(is_hex ? absl::SimpleHexAtoi(digits, &value) : absl::SimpleAtoi(digits, &value)) ||
      (digits.size() != text.size() && shift == 0)) {
    *error = "use a number, a hexadecimal number after 0x, or a number and one of K, M, G, T";
    return false;
  }
  if (value > std::numeric_limits<uint64_t>::max() >> shift) {
    *error = "it doesn't fit into 64 bits";
    return false;
  }
  *bytes = value << shift;
  return true;
}
