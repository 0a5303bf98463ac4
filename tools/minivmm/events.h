// SPDX-License-Identifier: Apache-2.0
// What gmem did, as lines for the user: from the module's counters.
#ifndef GMEM_TOOLS_MINIVMM_EVENTS_H_
#define GMEM_TOOLS_MINIVMM_EVENTS_H_

#include <optional>
#include <string>
#include <vector>

#include "gmem/device.h"

namespace minivmm {

// Thread-compatible.
class CounterEvents {
 public:
  // @device must outlive this.
  explicit CounterEvents(const gmem::Device* device) : device_(device) {}

  // What has changed since the last call; nothing at the first, or if the counters
  // can't be had.
  std::vector<std::string> Take();

 private:
  const gmem::Device* device_;
  std::optional<gmem::DeviceStats> last_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_EVENTS_H_
