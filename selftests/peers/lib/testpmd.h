// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_SELFTESTS_PEERS_LIB_TESTPMD_H_
#define GMEM_SELFTESTS_PEERS_LIB_TESTPMD_H_

#include <string>

#include "absl/status/statusor.h"
#include "lib/peer.h"

namespace gmem::vhost::peers {

/// Starts DPDK's testpmd with one network device, @p vdev, whose driver is in @p plugin. It sends
/// each frame back to where it came from.
inline absl::StatusOr<Peer> StartTestpmd(const std::string& plugin, const std::string& vdev) {
  return Peer::StartPackaged({"dpdk-testpmd",
                              "-l",
                              "0,1",
                              "--no-huge",
                              "--no-shconf",
                              "--no-telemetry",
                              "--no-pci",
                              "-m",
                              "128",
                              "--iova-mode=va",
                              "-d",
                              "librte_bus_vdev.so.25",
                              "-d",
                              "librte_mempool_ring.so.25",
                              "-d",
                              plugin + ".so.25",
                              "--vdev",
                              vdev,
                              "--",
                              "--no-mlockall",
                              "--total-num-mbufs=2048",
                              "--port-topology=loop",
                              "--auto-start",
                              "--stats-period=3600"});
}

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_TESTPMD_H_
