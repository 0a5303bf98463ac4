// SPDX-License-Identifier: Apache-2.0
// What is wrong with a range that the kernel refused. Not installed.
#ifndef GMEM_BASE_RANGE_ERROR_H_
#define GMEM_BASE_RANGE_ERROR_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "gmem/types.h"

// Not for the shared library's users to link with.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// The rules of a call for one range of it.
struct RangeRules {
  // What the call names the start: "guest_addr", "offset".
  absl::string_view start_name;
  ByteSize page_size;
  // Whose page size that is: "guestmem", "host".
  absl::string_view page_owner;
  // Places from here on don't exist, as @limit_name says. 0: no limit is known.
  uint64_t limit = 0;
  std::string limit_name = {};
};

// Which rule the range breaks, in words, with the values; empty if none.
std::string FindRangeError(const RangeRules& rules, uint64_t start, ByteSize size);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_BASE_RANGE_ERROR_H_
