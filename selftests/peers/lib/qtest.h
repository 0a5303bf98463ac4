// SPDX-License-Identifier: MIT OR Apache-2.0
// QEMU without a guest system: the test drives the machine by the qtest protocol.
#ifndef GMEM_SELFTESTS_PEERS_LIB_QTEST_H_
#define GMEM_SELFTESTS_PEERS_LIB_QTEST_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

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

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_QTEST_H_
