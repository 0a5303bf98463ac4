// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/sigbus.h"

#include <sched.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/const_init.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "vhost/queue/peer_pages.h"

namespace gmem::vhost {
namespace virtqueue_internal {

// A lock would block a handler that has interrupted its holder. So the entries have none.
struct WatchedPages {
  // 0: not used. A handler counts itself in before it looks at the range, and Reset() waits for the
  // count after it has cleared the start, so no handler uses a range that has gone.
  std::atomic<uintptr_t> start = 0;
  std::atomic<size_t> size = 0;
  std::atomic<int> nr_handlers = 0;
  std::atomic<bool> is_broken = false;
};

namespace {

// Blocks are never freed.
struct Block {
  std::array<WatchedPages, 64> entries;
  std::atomic<Block*> next = nullptr;
};

constinit Block first_block;
constinit std::atomic<uint64_t> nr_broken = 0;
constinit absl::Mutex mutex(absl::kConstInit);

// Entries that are not used.
std::vector<WatchedPages*>& FreeEntries() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
  static auto* const entries = new std::vector<WatchedPages*>;
  return *entries;
}

void AddBlock() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
  static Block* last = nullptr;
  Block* const block = last == nullptr ? &first_block : new Block();
  for (WatchedPages& entry : block->entries) FreeEntries().push_back(&entry);
  if (last != nullptr) last->next = block;
  last = block;
}

bool Replace(WatchedPages& pages, uintptr_t address) {
  const uintptr_t start = pages.start;
  const size_t size = pages.size;
  if (start == 0 || address - start >= size) return false;
  // First, since other threads may read zeroes from then on: their session must not go on.
  pages.is_broken = true;
  nr_broken++;
  return mmap(reinterpret_cast<void*>(start), size, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

// Puts zero pages where @address is, if it is in pages that are watched.
bool Replace(uintptr_t address) {
  for (Block* block = &first_block; block != nullptr; block = block->next) {
    for (WatchedPages& pages : block->entries) {
      pages.nr_handlers++;
      const bool is_there = Replace(pages, address);
      pages.nr_handlers--;
      if (is_there) return true;
    }
  }
  return false;
}

struct sigaction before;

void Handle(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  // BUS_ADRERR is what a page that isn't in its file raises.
  const bool is_mine =
      info->si_code == BUS_ADRERR && Replace(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = error;
  if (is_mine) return;
  // SA_SIGINFO says nothing about these two.
  if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
    // The kernel lets a program ignore what another process sends, and broken memory that nobody
    // has touched (BUS_MCEERR_AO). It ends a program that ignores the SIGBUS of a touch.
    const bool is_touch = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
    if (before.sa_handler == SIG_IGN && !is_touch) return;
    // Ends the process when the handler returns.
    std::signal(SIGBUS, SIG_DFL);
    raise(SIGBUS);
  } else if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else {
    before.sa_handler(signal);
  }
}

}  // namespace

PeerPages::PeerPages(absl::Span<uint8_t> pages) {
  const absl::MutexLock lock(&mutex);
  if (FreeEntries().empty()) AddBlock();
  watched_ = FreeEntries().back();
  FreeEntries().pop_back();
  watched_->is_broken = false;
  watched_->size = pages.size();
  watched_->start = reinterpret_cast<uintptr_t>(pages.data());
}

uint64_t PeerPages::NrBroken() { return nr_broken; }

bool PeerPages::is_broken() const { return watched_ != nullptr && watched_->is_broken; }

void PeerPages::Reset() {
  WatchedPages* const watched = std::exchange(watched_, nullptr);
  if (watched == nullptr) return;
  watched->start = 0;
  while (watched->nr_handlers != 0) sched_yield();
  const absl::MutexLock lock(&mutex);
  FreeEntries().push_back(watched);
}

}  // namespace virtqueue_internal

absl::Status SurviveSigbus() {
  static constinit absl::Mutex once(absl::kConstInit);
  static bool is_installed = false;
  const absl::MutexLock lock(&once);
  if (is_installed) return absl::OkStatus();
  struct sigaction action = {};
  action.sa_sigaction = virtqueue_internal::Handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  // The handler may run as soon as it is installed.
  if (sigaction(SIGBUS, nullptr, &virtqueue_internal::before) != 0 ||
      sigaction(SIGBUS, &action, nullptr) != 0) {
    return internal::ErrnoError(errno, "can't handle SIGBUS");
  }
  is_installed = true;
  return absl::OkStatus();
}

}  // namespace gmem::vhost
