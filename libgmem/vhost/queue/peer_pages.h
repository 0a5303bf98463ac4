// SPDX-License-Identifier: MIT OR Apache-2.0
// Mappings that a SIGBUS may hit. Not installed.
#ifndef GMEM_VHOST_QUEUE_PEER_PAGES_H_
#define GMEM_VHOST_QUEUE_PEER_PAGES_H_

#include <cstdint>
#include <utility>

#include "absl/types/span.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::virtqueue_internal {

struct WatchedPages;

// Pages of a file that a peer can shorten, mapped for reading and writing. See SurviveSigbus().
//
// Thread-compatible, while handlers run in any thread. Destroy it before the pages are unmapped.
class PeerPages {
 public:
  PeerPages() = default;
  explicit PeerPages(absl::Span<uint8_t> pages);
  PeerPages(PeerPages&& other) noexcept : watched_(std::exchange(other.watched_, nullptr)) {}
  PeerPages& operator=(PeerPages&& other) noexcept {
    std::swap(watched_, other.watched_);
    return *this;
  }
  ~PeerPages() { Reset(); }

  // Has a touch found a page missing? There are zero pages now.
  bool is_broken() const;
  // How often that has happened in this process.
  static uint64_t NrBroken();
  // When it returns, no handler changes the mapping.
  void Reset();

 private:
  WatchedPages* watched_ = nullptr;
};

}  // namespace gmem::vhost::virtqueue_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_QUEUE_PEER_PAGES_H_
