// SPDX-License-Identifier: MIT OR Apache-2.0
// Types of flags whose errors say what is valid. A flag of such a type that the user didn't give,
// and that has no default, has no value.
#ifndef GMEM_TOOLS_BASE_FLAG_TYPES_H_
#define GMEM_TOOLS_BASE_FLAG_TYPES_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/bytes.h"

namespace tools {

// A whole number from kMin to kMax.
template <uint64_t kMin, uint64_t kMax>
struct NumberIn : std::optional<uint64_t> {
  using std::optional<uint64_t>::optional;
};

// Abseil parses the text of each default, so that of no value is valid.
template <uint64_t kMin, uint64_t kMax>
bool AbslParseFlag(absl::string_view text, NumberIn<kMin, kMax>* number, std::string* error) {
  uint64_t value = 0;
  if (text.empty()) return true;
  if (!absl::SimpleAtoi(text, &value) || value < kMin || value > kMax) {
    *error = absl::StrCat("use a number from ", kMin, " to ", kMax);
    return false;
  }
  *number = value;
  return true;
}

template <uint64_t kMin, uint64_t kMax>
std::string AbslUnparseFlag(const NumberIn<kMin, kMax>& number) {
  return number ? absl::StrCat(*number) : "";
}

// "on" or "off".
struct Switch {
  bool is_on = false;
};

inline bool AbslParseFlag(absl::string_view text, Switch* value, std::string* error) {
  if (text != "on" && text != "off") {
    *error = "use on or off";
    return false;
  }
  value->is_on = text == "on";
  return true;
}

inline std::string AbslUnparseFlag(Switch value) { return value.is_on ? "on" : "off"; }

// A number of bytes, more than 0: "4096", "256M", "1GiB".
struct Size : std::optional<uint64_t> {
  using std::optional<uint64_t>::optional;
};

inline bool AbslParseFlag(absl::string_view text, Size* size, std::string* error) {
  uint64_t value = 0;
  if (text.empty()) return true;
  if (!ParseBytes(text, &value, error)) return false;
  if (value == 0) *error = "use more than 0 bytes";
  *size = value;
  return value != 0;
}

inline std::string AbslUnparseFlag(const Size& size) { return size ? absl::StrCat(*size) : ""; }

// A guest address: "0x40000000", "1G".
struct Address : std::optional<uint64_t> {
  using std::optional<uint64_t>::optional;
};

inline bool AbslParseFlag(absl::string_view text, Address* address, std::string* error) {
  uint64_t value = 0;
  if (text.empty()) return true;
  if (!ParseBytes(text, &value, error)) return false;
  *address = value;
  return true;
}

inline std::string AbslUnparseFlag(const Address& address) {
  return address ? absl::StrCat("0x", absl::Hex(*address)) : "";
}

}  // namespace tools

#endif  // GMEM_TOOLS_BASE_FLAG_TYPES_H_
