// SPDX-License-Identifier: MIT OR Apache-2.0
// A ring that a guest fills and a back-end process empties, in memory that both share.
// Documentation/libgmem/share-ring.rst goes through it.
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <new>

#include "gmem/device.h"
#include "gmem/window.h"
#include "or_die.h"

constexpr uint32_t kSlots = 64;

// The layout in memory. Zeroes are an empty ring.
struct Ring {
  std::atomic<uint32_t> head;  // messages that the guest has put in
  std::atomic<uint32_t> tail;  // messages that the back-end has taken out
  uint32_t slots[kSlots];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

constexpr gmem::GuestAddress kRing(0x100000);
constexpr gmem::ByteOffset kRingOffset(0x100000);
constexpr gmem::ByteSize kRingSize = gmem::KiB(4);

// The back-end process, which gets the memory of the ring and no other memory of the guest.
int BackEnd(int ring_fd, int kick) {
  const gmem::Mapping mapping = OrDie(gmem::Mapping::OfFile(ring_fd, {.size = kRingSize}));
  auto* ring = reinterpret_cast<Ring*>(mapping.data());
  for (uint32_t tail = 0;;) {
    uint64_t kicks;
    OrDie(read(kick, &kicks, sizeof(kicks)), "eventfd");
    // The guest can write anything here, at any time: look once, and check.
    const uint32_t head = ring->head.load(std::memory_order_acquire);
    if (head - tail > kSlots) Die(absl::DataLossError("the guest broke the ring"));
    for (; tail != head; ++tail) {
      const uint32_t message = ring->slots[tail % kSlots];
      if (message == 0) return 0;
      std::printf("back-end: %u\n", message);
    }
    ring->tail.store(tail, std::memory_order_release);
  }
}

// The guest's side of the ring.
void Put(Ring* ring, uint32_t message) {
  const uint32_t head = ring->head.load(std::memory_order_relaxed);
  while (head - ring->tail.load(std::memory_order_acquire) == kSlots) {
  }
  ring->slots[head % kSlots] = message;
  ring->head.store(head + 1, std::memory_order_release);
}

int main() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(2)));

  // The first MiB is RAM and lent; behind it, the ring is shared.
  const gmem::Vm vm = OrDie(device.CreateVm());
  OrDie(vm.Map(memory, {.size = gmem::MiB(1), .mode = gmem::MapMode::kLend}));
  OrDie(vm.Map(memory, {.guest_address = kRing,
                        .offset = kRingOffset,
                        .size = kRingSize,
                        .mode = gmem::MapMode::kShare}));

  const gmem::UniqueFd kick(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  const gmem::MemoryView view = OrDie(memory.CreateView({kRingOffset, kRingSize}));
  const pid_t back_end = OrDie(fork(), "fork");
  if (back_end == 0) return BackEnd(view.fd(), kick.get());

  // This process plays the guest: a touch of a window counts as the guest's.
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(2)}));
  auto* ring = reinterpret_cast<Ring*>(window.HostMemory({kRing, kRingSize}).data());
  for (const uint32_t message : {17u, 42u, 0u}) Put(ring, message);
  constexpr uint64_t kOne = 1;
  OrDie(write(kick.get(), &kOne, sizeof(kOne)), "eventfd");

  int status = 0;
  OrDie(waitpid(back_end, &status, 0), "waitpid");
  const gmem::PageCounts counts = OrDie(memory.Query({kRingOffset, kRingSize}));
  std::printf("back-end's exit status: %d\n", status);
  std::printf("ring's pages: lent %" PRIu64 ", shared %" PRIu64 "\n", counts.lent, counts.shared);
  // The view is of no use from now on: not even a stuck back-end has the memory.
  std::printf("pinned: %" PRIu64 "\n", OrDie(memory.RevokeView(view.id())));
}
