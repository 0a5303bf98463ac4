// SPDX-License-Identifier: Apache-2.0
// The flags of all subcommands. main.cc lists the flags of each subcommand.
#ifndef GMEMCTL_FLAGS_H_
#define GMEMCTL_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/flags/declare.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace gmemctl {

// A number of bytes: "4096", "256M", "1GiB". 0 means that the user gave none.
struct Size {
  uint64_t bytes = 0;
};
bool AbslParseFlag(absl::string_view text, Size* size, std::string* error);
std::string AbslUnparseFlag(const Size& size);

// An address: "0x40000000", "1G". Empty means that the user gave none.
struct Address {
  std::optional<uint64_t> value;
};
bool AbslParseFlag(absl::string_view text, Address* address, std::string* error);
std::string AbslUnparseFlag(const Address& address);

}  // namespace gmemctl

ABSL_DECLARE_FLAG(bool, j);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(bool, p);
ABSL_DECLARE_FLAG(bool, pretty);
ABSL_DECLARE_FLAG(bool, prometheus);
ABSL_DECLARE_FLAG(bool, openmetrics);
ABSL_DECLARE_FLAG(std::string, output);
ABSL_DECLARE_FLAG(uint64_t, count);
ABSL_DECLARE_FLAG(uint32_t, vm);
ABSL_DECLARE_FLAG(int32_t, pid);
ABSL_DECLARE_FLAG(int32_t, fd);
ABSL_DECLARE_FLAG(gmemctl::Address, address);
ABSL_DECLARE_FLAG(gmemctl::Size, size);
ABSL_DECLARE_FLAG(bool, hugepages);
ABSL_DECLARE_FLAG(std::string, name);
ABSL_DECLARE_FLAG(std::string, svg);
ABSL_DECLARE_FLAG(uint32_t, width);
ABSL_DECLARE_FLAG(absl::Duration, interval);
ABSL_DECLARE_FLAG(uint64_t, iterations);

#endif  // GMEMCTL_FLAGS_H_
