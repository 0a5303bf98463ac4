// SPDX-License-Identifier: MIT OR Apache-2.0
#include "flags.h"

#include <cstdint>
#include <string>

#include "absl/flags/flag.h"
#include "absl/time/time.h"
#include "base/flag_types.h"
#include "event_types.h"
#include "sort_key.h"

ABSL_FLAG(bool, j, false, "print JSON");
ABSL_FLAG(bool, json, false, "the same as -j");
ABSL_FLAG(bool, p, false, "print JSON for humans, on many lines");
ABSL_FLAG(bool, pretty, false, "the same as -p");
ABSL_FLAG(bool, prometheus, false, "print Prometheus's text format, which node exporter reads");
ABSL_FLAG(bool, openmetrics, false, "print OpenMetrics text");
ABSL_FLAG(std::string, output, "", "replace this file instead, as a whole or not at all");
ABSL_FLAG(bool, t, false, "print the time when each event came");
ABSL_FLAG(bool, timestamps, false, "the same as -t");
ABSL_FLAG(uint64_t, count, 0, "end after this number of lines; 0: never");
ABSL_FLAG(absl::Duration, duration, absl::ZeroDuration(),
          "end after this time, such as 10s; 0: never");
ABSL_FLAG(gmemctl::EventTypes, event, {}, "only events of these types, with commas between them");
ABSL_FLAG(gmemctl::SortKey, sort, gmemctl::SortKey::kLent,
          "the column by which VMs are sorted: lent, refused, waiters, bindings, vm, pid, command "
          "or name");
ABSL_FLAG(gmemctl::VmId, vm, {}, "number of the VM, as \"gmemctl list\" shows it");
ABSL_FLAG(gmemctl::ProcessId, pid, {}, "a process that created the object or has it open");
ABSL_FLAG(gmemctl::FdNumber, fd, {}, "number of a descriptor");
ABSL_FLAG(tools::Address, address, {}, "guest address where the range begins; the default is 0");
ABSL_FLAG(tools::Size, size, {}, "bytes; K, M, G and T stand for powers of 1024");
ABSL_FLAG(bool, hugepages, false, "back the memory with huge pages");
ABSL_FLAG(std::string, name, "",
          "of an object; exec also lists the descriptor under this name in $GMEM_FDS");
ABSL_FLAG(std::string, svg, "", "write an SVG picture to this file");
ABSL_FLAG(gmemctl::Width, width, 64, "characters in a row of the picture, 8 to 1024");
ABSL_FLAG(absl::Duration, interval, absl::Seconds(2), "time between two tables: 500ms, 2s, 1m");
ABSL_FLAG(uint64_t, iterations, 0,
          "end after this number of tables; 0: never on a terminal, else after the first");
