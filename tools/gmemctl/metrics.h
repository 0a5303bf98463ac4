// SPDX-License-Identifier: MIT OR Apache-2.0
// The module's counters as text for monitoring systems.
#ifndef GMEMCTL_METRICS_H_
#define GMEMCTL_METRICS_H_

#include <string>
#include <vector>

#include "gmem/device.h"
#include "gmem/monitor.h"

namespace gmemctl {

// The two formats differ in the name of a counter. In OpenMetrics, counter "x" has the sample
// "x_total". In Prometheus's text format, which node exporter reads, the counter itself is
// "x_total". So no text with counters is valid in both.
enum class MetricsFormat {
  kPrometheus,   // version 0.0.4
  kOpenMetrics,  // version 1.0
};

std::string MetricsText(MetricsFormat format, const gmem::DeviceStats& stats,
                        const std::vector<gmem::VmState>& vms);

}  // namespace gmemctl

#endif  // GMEMCTL_METRICS_H_
