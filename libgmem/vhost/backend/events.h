// SPDX-License-Identifier: Apache-2.0
// What Backend's epoll says is ready. Not installed.
#ifndef GMEM_VHOST_BACKEND_EVENTS_H_
#define GMEM_VHOST_BACKEND_EVENTS_H_

#include <cstdint>

namespace gmem::vhost {

inline constexpr uint64_t kMainToken = 0;
inline constexpr uint64_t kChannelToken = 1;
inline constexpr uint64_t kWakeToken = 2;
inline constexpr uint64_t kStateToken = 3;
// And the virtqueue's index.
inline constexpr uint64_t kKickToken = 0x100;

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BACKEND_EVENTS_H_
