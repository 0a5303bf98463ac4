// SPDX-License-Identifier: MIT OR Apache-2.0
// The guest memory of the tests: a memfd, or a guestmem where the tests run with gmem.ko.
#ifndef GMEM_SELFTESTS_PEERS_LIB_DRIVER_MEMORY_H_
#define GMEM_SELFTESTS_PEERS_LIB_DRIVER_MEMORY_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {

/// Is the environment variable GMEM_PEERS_GUESTMEM set? The front-end then sends views.
inline bool UsesGuestMemory() { return getenv("GMEM_PEERS_GUESTMEM") != nullptr; }

inline absl::StatusOr<std::unique_ptr<doubles::DriverMemory>> NewDriverMemory(size_t size) {
  if (!UsesGuestMemory()) return doubles::DriverMemory::Create(size);
  GMEM_ASSIGN_OR_RETURN(const Device device, Device::Open());
  GMEM_ASSIGN_OR_RETURN(GuestMemory memory,
                        device.CreateGuestMemory(ByteSize(size), {.name = "peers"}));
  return doubles::DriverMemory::Adopt(std::move(memory).Release(), size);
}

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_PEERS_LIB_DRIVER_MEMORY_H_
