// SPDX-License-Identifier: MIT OR Apache-2.0
// The VMM's side of the ring of ring.h.
#ifndef GMEM_TOOLS_MINIVMM_RING_SERVER_H_
#define GMEM_TOOLS_MINIVMM_RING_SERVER_H_

#include <sys/eventfd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "gmem/unique_fd.h"
#include "or_die.h"
#include "ring.h"

namespace minivmm {

// Thread-safe.
class RingServer {
 public:
  // A thread serves @ring whenever @bell counts a ring. @ring must outlive the server.
  RingServer(ring* ring, gmem::UniqueFd bell)
      : ring_(ring), bell_(std::move(bell)), thread_([this] { Serve(); }) {}
  ~RingServer() {
    stop_ = true;
    OrDie(eventfd_write(bell_.get(), 1), "eventfd");
    thread_.join();
  }
  RingServer(const RingServer&) = delete;
  RingServer& operator=(const RingServer&) = delete;

  // How often the guest has rung.
  uint64_t NrRings() const { return nr_rings_; }

 private:
  void Serve() {
    for (;;) {
      eventfd_t count = 0;
      OrDie(eventfd_read(bell_.get(), &count), "eventfd");
      if (stop_) return;
      nr_rings_ += count;
      const uint32_t sent = __atomic_load_n(&ring_->sent, __ATOMIC_ACQUIRE);
      // A guest that claims more than the ring holds harms only itself.
      for (uint32_t done = ring_->done; done != sent && sent - done <= RING_SIZE; ++done) {
        ring_->numbers[done % RING_SIZE] *= 2;
        __atomic_store_n(&ring_->done, done + 1, __ATOMIC_RELEASE);
      }
    }
  }

  ring* const ring_;
  const gmem::UniqueFd bell_;
  std::atomic<uint64_t> nr_rings_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_RING_SERVER_H_
