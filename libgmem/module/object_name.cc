// SPDX-License-Identifier: MIT OR Apache-2.0
#include "module/object_name.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/device.h"

namespace gmem::internal {

static_assert(kMaxNameLength == GMEM_OBJECT_NAME_LEN - 1);

absl::Status SetName(absl::string_view name, uint8_t (&field)[GMEM_OBJECT_NAME_LEN]) {
  if (name.size() > kMaxNameLength) {
    return CheckError(EINVAL,
                      absl::StrCat("the name \"", absl::CHexEscape(name), "\" has ", name.size(),
                                   " characters: at most ", kMaxNameLength, " are possible"));
  }
  const bool is_printable = std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isprint(static_cast<unsigned char>(c));
  });
  if (!is_printable) {
    return CheckError(EINVAL, absl::StrCat("the name \"", absl::CHexEscape(name),
                                           "\" has a character that isn't printable ASCII"));
  }
  std::copy(name.begin(), name.end(), field);
  return absl::OkStatus();
}

}  // namespace gmem::internal
