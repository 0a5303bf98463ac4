// SPDX-License-Identifier: MIT OR Apache-2.0
// The error of calls that only a newer module has. Not installed.
#ifndef GMEM_MODULE_NEWER_MODULE_H_
#define GMEM_MODULE_NEWER_MODULE_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// @what: "can't create a view", for example. @lacks: "views".
// @abi: the first GMEM_ABI_VERSION that has them.
inline absl::Status NewerModuleError(int error, absl::string_view what, absl::string_view lacks,
                                     int abi = 2) {
  return CheckError(error, absl::StrCat(what, ": the module has no ", lacks,
                                        "; load a gmem.ko of ABI ", abi, " or later"));
}

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MODULE_NEWER_MODULE_H_
