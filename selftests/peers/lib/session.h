// SPDX-License-Identifier: MIT OR Apache-2.0
// Steps of tests that use the library's front-end with a driver's memory and virtqueues.
#ifndef GMEM_SELFTESTS_PEERS_LIB_SESSION_H_
#define GMEM_SELFTESTS_PEERS_LIB_SESSION_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/driver_ring.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {

/// The time that a back-end may take to start on a busy machine.
inline constexpr absl::Duration kStartTimeout = absl::Seconds(30);

/// Waits for the socket, connects, and negotiates @p features and VERSION_1, as far as the back-end
/// offers them.
inline absl::StatusOr<std::unique_ptr<Frontend>> ConnectFrontend(const std::string& path,
                                                                 uint64_t features,
                                                                 Frontend::Options options = {}) {
  absl::StatusOr<Connection> connection = Connection::Connect(path, kStartTimeout);
  if (!connection.ok()) return connection.status();
  auto frontend = Frontend::Create(*std::move(connection), std::move(options));
  if (!frontend.ok()) return frontend;
  absl::Status status = (*frontend)->Negotiate();
  if (status.ok()) {
    status = (*frontend)->SetFeatures((*frontend)->features() &
                                      (features | Bit(VirtioFeature::kVersion1)));
  }
  if (!status.ok()) return status;
  return frontend;
}

inline absl::Status ShareMemory(Frontend& frontend, const doubles::DriverMemory& memory) {
  const MemoryRegion region = memory.region();
  const GuestRegion guest = {.guest_address = GuestAddress(region.guest_address),
                             .size = ByteSize(region.size),
                             .user_address = region.user_address,
                             .fd = memory.fd()};
  return frontend.SetMemory({guest});
}

/// Starts a virtqueue. The device has already taken @p base chains of it.
inline absl::Status StartRing(Frontend& frontend, unsigned index, const DriverRing& ring,
                              uint16_t base = 0) {
  return frontend.StartVring(index, {.size = ring.size(),
                                     .base = base,
                                     .address = ring.address(index),
                                     .kick_fd = ring.kick_fd(),
                                     .call_fd = ring.call_fd()});
}

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_SESSION_H_
