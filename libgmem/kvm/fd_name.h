// SPDX-License-Identifier: MIT OR Apache-2.0
// The names of descriptors in FdTable and FdStore. Not installed.
#ifndef GMEM_KVM_FD_NAME_H_
#define GMEM_KVM_FD_NAME_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

inline constexpr size_t kMaxFdName = 255;

inline absl::Status CheckFdName(absl::string_view name) {
  const bool printable = std::all_of(name.begin(), name.end(),
                                     [](char c) { return c >= ' ' && c < 0x7f && c != ':'; });
  if (printable && !name.empty() && name.size() <= kMaxFdName) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("\"", absl::CHexEscape(name.substr(0, kMaxFdName)),
                                         "\" can't name a descriptor: 1 to ", kMaxFdName,
                                         " printable ASCII characters, without ':'"));
}

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_KVM_FD_NAME_H_
