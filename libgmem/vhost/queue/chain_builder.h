// SPDX-License-Identifier: MIT OR Apache-2.0
// Builds a chain from descriptors, with the checks that both kinds of rings share. Not installed.
#ifndef GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_
#define GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/descriptor.h"

namespace gmem::vhost::virtqueue_internal {

// Fills one chain. The methods return kChain if the descriptors are added. After another result,
// the chain is of no use.
class __attribute__((visibility("hidden"))) ChainBuilder {
 public:
  // Empties @chain. @size: the virtqueue's entries. @table is scratch memory, to be used again. All
  // must outlive this object.
  ChainBuilder(const GuestMemoryMap& memory, uint32_t size, std::vector<SplitDescriptor>& table,
               Chain& chain)
      : memory_(memory),
        max_descriptors_(std::max<size_t>(size, Chain::kMaxIndirect)),
        table_(table),
        chain_(chain) {
    // A driver could let each of a device's chains have room for that many pieces.
    if (chain_.spans_.size() > Chain::kMaxSpans) chain_.spans_ = std::vector<GuestSpan>();
    chain_.nr_spans_ = chain_.nr_readable_ = 0;
    chain_.readable_size_ = chain_.writable_size_ = 0;
  }

  Popped Add(uint64_t address, uint32_t length, bool is_writable);

  // Adds the descriptors of an indirect table, each of which is read once. @is_linked: they name
  // their successor; without, as in a packed ring, they stand in their order.
  Popped AddTable(uint64_t address, uint32_t length, bool is_linked);

  size_t nr_spans() const { return chain_.nr_spans_; }
  absl::Span<const GuestSpan> spans() const { return {chain_.spans_.data(), nr_spans()}; }
  void Finish(const Chain::Token& token) { chain_.token_ = token; }

  // Notes the rule that the driver broke; returns kBroken.
  Popped Break(absl::string_view why);

  // After kMiss: the translation that is missing.
  const Virtqueue::Miss& miss() const { return miss_; }
  // After kBroken.
  const absl::Status& error() const { return error_; }

 private:
  Popped Translate(uint64_t address, uint64_t length, GuestAccess access, size_t& nr_spans);

  const GuestMemoryMap& memory_;
  const size_t max_descriptors_;
  std::vector<SplitDescriptor>& table_;
  Chain& chain_;
  size_t nr_descriptors_ = 0;
  Virtqueue::Miss miss_;
  absl::Status error_;
};

}  // namespace gmem::vhost::virtqueue_internal

#endif  // GMEM_VHOST_QUEUE_CHAIN_BUILDER_H_
