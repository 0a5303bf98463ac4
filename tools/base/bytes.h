// SPDX-License-Identifier: MIT OR Apache-2.0
// Numbers of bytes as users write them.
#ifndef GMEM_TOOLS_BASE_BYTES_H_
#define GMEM_TOOLS_BASE_BYTES_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

// Parses "4096", "0x1000", "256M" or "1GiB": K, M, G and T stand for powers of 1024. On failure,
// returns false and sets @error to the reason.
bool ParseBytes(absl::string_view text, uint64_t* bytes, std::string* error);

#endif  // GMEM_TOOLS_BASE_BYTES_H_
