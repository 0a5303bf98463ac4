// SPDX-License-Identifier: Apache-2.0
// QEMU without a guest system: the test drives the machine by the qtest protocol.
#ifndef GMEM_SELFTESTS_VHOST_QTEST_H_
#define GMEM_SELFTESTS_VHOST_QTEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "peer.h"

namespace gmem::vhost::peers {

/// The machine's memory and I/O ports, as its CPU sees them.
class Qtest {
 public:
  /// Qtest calls this again and again while it waits for QEMU. QEMU may in turn wait for a back-end
  /// that is in the same thread: this function serves the back-end.
  using Idle = std::function<void()>;

  /// Waits until QEMU listens, and connects.
  static absl::StatusOr<std::unique_ptr<Qtest>> Connect(const std::string& path, Idle idle);

  /// @p size: 1, 2 or 4.
  absl::StatusOr<uint32_t> Read(uint64_t address, int size = 4);
  absl::Status Write(uint64_t address, uint32_t value, int size = 4);
  absl::StatusOr<std::vector<uint8_t>> ReadBytes(uint64_t address, size_t size);
  absl::Status WriteBytes(uint64_t address, absl::Span<const uint8_t> bytes);
  absl::StatusOr<uint32_t> In(uint16_t port);
  absl::Status Out(uint16_t port, uint32_t value);

 private:
  Qtest(UniqueFd socket, Idle idle) : socket_(std::move(socket)), idle_(std::move(idle)) {}

  // Sends a command. Returns the part of the answer that follows "OK".
  absl::StatusOr<std::string> Command(absl::string_view line);
  absl::StatusOr<std::string> ReadLine();

  UniqueFd socket_;
  Idle idle_;
  std::string input_;
};

/// QEMU with one vhost-user-test-device-pci, and a driver of that device.
class QemuDevice {
 public:
  /// The guest addresses of a shared memory region.
  struct Region {
    uint64_t address;
    uint64_t size;
  };

  /// Starts QEMU, whose front-end connects to @p socket, and gives the device its addresses.
  /// QEMU's qtest socket is in @p folder.
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

#endif  // GMEM_SELFTESTS_VHOST_QTEST_H_
