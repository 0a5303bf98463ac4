// SPDX-License-Identifier: MIT OR Apache-2.0
// Accesses to memory that another process changes at any time. Not installed.
#ifndef GMEM_VHOST_QUEUE_SHARED_ACCESS_H_
#define GMEM_VHOST_QUEUE_SHARED_ACCESS_H_

#include <cstdint>
#include <cstring>

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

// Returns a copy, to check and to use. The compiler can't read the memory a second time.
template <typename T>
T LoadOnce(const uint8_t* from) {
  T copy;
  asm volatile("" ::: "memory");
  std::memcpy(&copy, from, sizeof(copy));
  asm volatile("" : : "r"(&copy) : "memory");
  return copy;
}

template <typename T>
T LoadAcquire(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const T*>(at), __ATOMIC_ACQUIRE);
}

template <typename T>
void StoreRelease(uint8_t* at, T value) {
  __atomic_store_n(reinterpret_cast<T*>(at), value, __ATOMIC_RELEASE);
}

// Makes the stores before it visible to the peer before the loads after it.
inline void FullFence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_SHARED_ACCESS_H_
