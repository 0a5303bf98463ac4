// SPDX-License-Identifier: MIT OR Apache-2.0
// The flags of all subcommands. main.cc lists the flags of each subcommand.
#ifndef GMEMCTL_FLAGS_H_
#define GMEMCTL_FLAGS_H_

#include <cstdint>
#include <limits>
#include <string>

#include "absl/flags/declare.h"
#include "absl/time/time.h"
#include "base/flag_types.h"
#include "event_types.h"
#include "sort_key.h"

namespace gmemctl {

using VmId = tools::NumberIn<1, std::numeric_limits<uint32_t>::max()>;
using ProcessId = tools::NumberIn<1, std::numeric_limits<int32_t>::max()>;
using FdNumber = tools::NumberIn<0, std::numeric_limits<int32_t>::max()>;
using Width = tools::NumberIn<8, 1024>;

}  // namespace gmemctl

ABSL_DECLARE_FLAG(bool, j);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(bool, p);
ABSL_DECLARE_FLAG(bool, pretty);
ABSL_DECLARE_FLAG(bool, prometheus);
ABSL_DECLARE_FLAG(bool, openmetrics);
ABSL_DECLARE_FLAG(std::string, output);
ABSL_DECLARE_FLAG(bool, t);
ABSL_DECLARE_FLAG(bool, timestamps);
ABSL_DECLARE_FLAG(uint64_t, count);
ABSL_DECLARE_FLAG(absl::Duration, duration);
ABSL_DECLARE_FLAG(gmemctl::EventTypes, event);
ABSL_DECLARE_FLAG(gmemctl::SortKey, sort);
ABSL_DECLARE_FLAG(gmemctl::VmId, vm);
ABSL_DECLARE_FLAG(gmemctl::ProcessId, pid);
ABSL_DECLARE_FLAG(gmemctl::FdNumber, fd);
ABSL_DECLARE_FLAG(tools::Address, address);
ABSL_DECLARE_FLAG(tools::Size, size);
ABSL_DECLARE_FLAG(bool, hugepages);
ABSL_DECLARE_FLAG(std::string, name);
ABSL_DECLARE_FLAG(std::string, svg);
ABSL_DECLARE_FLAG(gmemctl::Width, width);
ABSL_DECLARE_FLAG(absl::Duration, interval);
ABSL_DECLARE_FLAG(uint64_t, iterations);

#endif  // GMEMCTL_FLAGS_H_
