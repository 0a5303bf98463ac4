// SPDX-License-Identifier: MIT OR Apache-2.0
#include "base/range_error.h"

#include <cstdint>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmem/types.h"

namespace gmem::internal {

std::string FindRangeError(const RangeRules& rules, uint64_t start, ByteSize size) {
  const std::string page =
      absl::StrCat("the ", ToString(rules.page_size), " page size of this ", rules.page_owner);
  const std::string start_text = absl::StrCat(rules.start_name, " 0x", absl::Hex(start));

  if (size == ByteSize(0)) return "size is 0: ask for at least one page";
  if (!IsAligned(ByteOffset(start), rules.page_size)) {
    return absl::StrCat(start_text, " is not a multiple of ", page);
  }
  if (!IsAligned(size, rules.page_size)) {
    return absl::StrCat("size 0x", absl::Hex(size.value()), " is not a multiple of ", page);
  }
  const std::string sum = absl::StrCat(start_text, " + size 0x", absl::Hex(size.value()));
  if (size.value() - 1 > std::numeric_limits<uint64_t>::max() - start) {
    return absl::StrCat(sum, " doesn't fit 64 bits");
  }
  if (rules.limit != 0 && start + (size.value() - 1) >= rules.limit) {
    return absl::StrCat(sum, " is beyond ", rules.limit_name);
  }
  return "";
}

}  // namespace gmem::internal
