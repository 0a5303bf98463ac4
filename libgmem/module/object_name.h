// SPDX-License-Identifier: MIT OR Apache-2.0
// The names of objects, as the kernel takes them. Not installed.
#ifndef GMEM_MODULE_OBJECT_NAME_H_
#define GMEM_MODULE_OBJECT_NAME_H_

#include <linux/gmem.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Copies @name into a struct for the kernel, which is all zeroes. InvalidArgument (EINVAL) if the
// name is too long or has characters that aren't printable ASCII.
absl::Status SetName(absl::string_view name, uint8_t (&field)[GMEM_OBJECT_NAME_LEN]);

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MODULE_OBJECT_NAME_H_
