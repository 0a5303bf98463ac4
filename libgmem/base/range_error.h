// SPDX-License-Identifier: MIT OR Apache-2.0
// Texts that say why the kernel refused a range. Not installed.
#ifndef GMEM_BASE_RANGE_ERROR_H_
#define GMEM_BASE_RANGE_ERROR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "gmem/types.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// The rules of a call for one of its ranges.
struct RangeRules {
  // The call's name for the start: "guest_addr", "offset".
  absl::string_view start_name;
  ByteSize page_size;
  // The object that has this page size: "guestmem", "host".
  absl::string_view page_owner;
  // The first place that doesn't exist; 0 if no limit is known. @limit_name describes the limit.
  uint64_t limit = 0;
  std::string limit_name = {};
};

// Describes the rule that the range breaks, with the values. Empty if the range breaks none.
std::string FindRangeError(const RangeRules& rules, uint64_t start, ByteSize size);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_RANGE_ERROR_H_
