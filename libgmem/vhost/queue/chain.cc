// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/chain.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "gmem/vhost/guest_memory_map.h"

namespace gmem::vhost {
namespace {

// Calls @visit with each piece of [offset, offset + size) that lies in @spans.
template <typename Visit>
size_t ForEachPiece(absl::Span<const GuestSpan> spans, uint64_t offset, size_t size, Visit visit) {
  size_t done = 0;
  for (const GuestSpan span : spans) {
    if (done == size) break;
    if (offset >= span.size()) {
      offset -= span.size();
      continue;
    }
    const size_t piece = std::min<uint64_t>(span.size() - offset, size - done);
    visit(span.data() + offset, done, piece);
    done += piece;
    offset = 0;
  }
  return done;
}

}  // namespace

size_t Chain::Read(uint64_t offset, void* to, size_t size) const {
  return ForEachPiece(readable(), offset, size, [to](uint8_t* guest, size_t at, size_t piece) {
    std::memcpy(static_cast<uint8_t*>(to) + at, guest, piece);
  });
}

size_t Chain::Write(uint64_t offset, const void* from, size_t size) const {
  return ForEachPiece(writable(), offset, size, [from](uint8_t* guest, size_t at, size_t piece) {
    std::memcpy(guest, static_cast<const uint8_t*>(from) + at, piece);
  });
}

}  // namespace gmem::vhost
