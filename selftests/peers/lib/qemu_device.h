// SPDX-License-Identifier: MIT OR Apache-2.0
// A vhost-user device in QEMU, and its driver.
#ifndef GMEM_SELFTESTS_PEERS_LIB_QEMU_DEVICE_H_
#define GMEM_SELFTESTS_PEERS_LIB_QEMU_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lib/peer.h"
#include "lib/qtest.h"

namespace gmem::vhost::peers {

/// QEMU with one vhost-user-test-device-pci, and a driver of that device.
class QemuDevice {
 public:
  /// The guest addresses of a shared memory region.
  struct Region {
    uint64_t address;
    uint64_t size;
  };

  /// Starts QEMU, whose front-end connects to @p socket, and gives the device its addresses. QEMU's
  /// qtest socket is in @p folder.
  static absl::StatusOr<std::unique_ptr<QemuDevice>> Start(const ScratchFolder& folder,
                                                           const std::string& socket,
                                                           Qtest::Idle idle);

  Qtest& qtest() { return *qtest_; }
  bool is_running() { return qemu_.is_running(); }
  /// The shared memory regions by shmid.
  const std::map<uint8_t, Region>& regions() const { return regions_; }

  /// Takes the steps of a driver up to DRIVER_OK. All virtqueues start, and are empty.
  absl::Status StartDriver();
  /// Sets the device status to 0.
  absl::Status Reset();
  /// Sends a request of at most a page on virtqueue 0, and waits for the device to write
  /// @p answer_size bytes.
  absl::StatusOr<std::vector<uint8_t>> Ask(absl::Span<const uint8_t> request, size_t answer_size);

 private:
  static constexpr int kBars = 6;

  QemuDevice(Peer qemu, std::unique_ptr<Qtest> qtest)
      : qemu_(std::move(qemu)), qtest_(std::move(qtest)) {}

  absl::StatusOr<uint32_t> ReadConfig(uint8_t offset);
  absl::Status WriteConfig(uint8_t offset, uint32_t value);
  absl::Status PlaceBars();
  absl::Status FindCapabilities();

  Peer qemu_;
  std::unique_ptr<Qtest> qtest_;
  std::array<uint64_t, kBars> bars_ = {};
  uint64_t common_ = 0;
  // The address to notify virtqueue 0.
  uint64_t notify_ = 0;
  uint16_t asked_ = 0;
  std::map<uint8_t, Region> regions_;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_QEMU_DEVICE_H_
