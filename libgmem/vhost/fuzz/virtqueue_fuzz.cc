// SPDX-License-Identifier: MIT OR Apache-2.0
// libFuzzer: a driver that writes any bytes into its rings, and into the buffer in which an earlier
// back-end recorded the requests in flight.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {
namespace {

// Guest memory: the rings and their buffers. It is small, so that a random address often lies in
// it. It has two regions, with a hole between them.
constexpr uint64_t kRegionSize = 0x4000;
constexpr uint64_t kSecondStart = 0x8000;
constexpr uint64_t kUsedOffset = 0x1000;
constexpr uint64_t kAvailableOffset = 0x2000;
constexpr size_t kInflightSize = 0x1000;
constexpr uint32_t kMaxEntries = 128;
constexpr int kMaxPops = 256;

struct Options {
  uint8_t flags;
  uint8_t size;
  uint16_t base;
};

uint8_t* MapGuest(int fd) {
  void* const memory = mmap(nullptr, 2 * kRegionSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) abort();
  return static_cast<uint8_t*>(memory);
}

class Guest {
 public:
  Guest() : fd_(memfd_create("guest", MFD_CLOEXEC)) {
    if (ftruncate(fd_.get(), 2 * kRegionSize) != 0) abort();
    memory_ = MapGuest(fd_.get());
    const MemoryRegion first = {
        .guest_address = 0, .size = kRegionSize, .user_address = 0, .mmap_offset = 0};
    const MemoryRegion second = {.guest_address = kSecondStart,
                                 .size = kRegionSize,
                                 .user_address = kSecondStart,
                                 .mmap_offset = kRegionSize};
    if (!map_.Add(first, fd_.get()).ok() || !map_.Add(second, fd_.get()).ok()) abort();
  }

  uint8_t* memory() { return memory_; }
  const GuestMemoryMap& map() const { return map_; }

 private:
  const UniqueFd fd_;
  uint8_t* memory_ = nullptr;
  GuestMemoryMap map_;
};

// Makes all calls that a device makes with a chain, and a few that it may not make.
void Work(Virtqueue& queue, Chain& chain) {
  std::array<uint8_t, 64> buffer = {};
  for (uint64_t at = 0; at < std::min<uint64_t>(chain.readable_size(), 4096); at += 48) {
    chain.Read(at, buffer.data(), buffer.size());
  }
  chain.Write(0, buffer.data(), buffer.size());
  chain.Write(chain.writable_size(), buffer.data(), 1);
  queue.Push(chain, chain.writable_size() + 1);
}

void Drive(Virtqueue& queue) {
  std::vector<Chain> kept;
  for (int i = 0; i < kMaxPops; i++) {
    Chain chain;
    if (queue.Pop(chain) != Popped::kChain) break;
    // Put some back, after which they come again, or are broken meanwhile.
    if (i % 4 == 1) {
      if (!queue.Unpop(chain) || queue.Push(chain, 1)) abort();
      continue;
    }
    // Use some chains at once, and some later and in another order.
    if (i % 3 == 0) {
      kept.push_back(std::move(chain));
    } else {
      Work(queue, chain);
    }
    queue.Notify();
    if (i % 5 == 0) queue.DisableKicks();
    if (i % 7 == 0) queue.EnableKicks();
    if (i % 11 == 0) queue.AwaitMore();
  }
  const size_t in_flight = queue.in_flight();
  if (kept.size() % 2 == 1 && queue.TakeBack() + queue.in_flight() != in_flight) abort();
  for (auto chain = kept.rbegin(); chain != kept.rend(); ++chain) Work(queue, *chain);
  queue.Notify();
  (void)queue.base();
}

}  // namespace
}  // namespace gmem::vhost

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gmem::vhost::GuestSpan;
  using gmem::vhost::Virtqueue;
  static gmem::vhost::Guest guest;

  gmem::vhost::Options options = {};
  if (size < sizeof(options)) return 0;
  std::memcpy(&options, data, sizeof(options));
  data += sizeof(options);
  size -= sizeof(options);

  uint8_t* const memory = guest.memory();
  const size_t filled = std::min<size_t>(size, 2 * gmem::vhost::kRegionSize);
  std::memset(memory, 0, 2 * gmem::vhost::kRegionSize);
  std::memcpy(memory, data, filled);

  const Virtqueue::Options queue_options = {
      .index = 1,
      .size = 1 + options.size % gmem::vhost::kMaxEntries,
      .is_packed = (options.flags & 1) != 0,
      .has_indirect = (options.flags & 2) != 0,
      .has_event_idx = (options.flags & 4) != 0,
  };
  const Virtqueue::Memory ring = {
      .descriptors = GuestSpan(memory, gmem::vhost::kUsedOffset),
      .used = GuestSpan(memory + gmem::vhost::kUsedOffset, 0x1000),
      .available = GuestSpan(memory + gmem::vhost::kAvailableOffset, 0x1000),
  };
  auto queue = Virtqueue::Create(guest.map(), queue_options, ring,
                                 queue_options.is_packed ? options.base * 0x10001U : options.base);
  if (!queue.ok()) return 0;
  // The rest of the input is the record of requests in flight.
  alignas(16) static std::array<uint8_t, gmem::vhost::kInflightSize> inflight;
  if ((options.flags & 8) != 0) {
    inflight.fill(0);
    const size_t rest = std::min(size - filled, inflight.size());
    std::memcpy(inflight.data(), data + filled, rest);
    if ((options.flags & 16) != 0) {
      // Let small inputs reach this buffer, too.
      std::memcpy(inflight.data(), data, std::min(size, inflight.size()));
    }
    if (!queue->TrackInflight(absl::MakeSpan(inflight)).ok()) return 0;
  }
  gmem::vhost::Drive(*queue);
  return 0;
}
