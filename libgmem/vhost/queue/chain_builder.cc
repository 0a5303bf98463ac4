// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/queue/chain_builder.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/queue/descriptor.h"

namespace gmem::vhost::virtqueue_internal {

Popped ChainBuilder::Break(absl::string_view why) {
  error_ = internal::CheckError(EBADMSG, why);
  return Popped::kBroken;
}

Popped ChainBuilder::Translate(uint64_t address, uint64_t length, GuestAccess access,
                               size_t& nr_spans) {
  while (true) {
    const size_t before = nr_spans;
    uint64_t failed_at = 0;
    const GuestMemoryMap::Result result = memory_.Translate(
        address, length, access, absl::MakeSpan(chain_.spans_), nr_spans, failed_at);
    switch (result) {
      case GuestMemoryMap::Result::kOk:
        return Popped::kChain;
      case GuestMemoryMap::Result::kMiss:
        miss_ = {.address = failed_at, .access = access};
        return Popped::kMiss;
      case GuestMemoryMap::Result::kNotMemory:
        return Break(absl::StrCat("a descriptor of ", length, " bytes at 0x", absl::Hex(address),
                                  ": 0x", absl::Hex(failed_at), " isn't the guest's memory"));
      case GuestMemoryMap::Result::kRemoved:
        return Popped::kNothing;
      case GuestMemoryMap::Result::kTooMany:
        if (chain_.spans_.size() >= 2 * max_descriptors_) {
          return Break(absl::StrCat("a chain of more than ", 2 * max_descriptors_, " pieces"));
        }
        constexpr size_t kFirstSpans = 64;
        chain_.spans_.resize(
            std::min(std::max(kFirstSpans, 2 * chain_.spans_.size()), 2 * max_descriptors_));
        nr_spans = before;
    }
  }
}

Popped ChainBuilder::Add(uint64_t address, uint32_t length, bool is_writable) {
  if (++nr_descriptors_ > max_descriptors_) {
    return Break(absl::StrCat("a chain of more than ", max_descriptors_, " descriptors"));
  }
  if (!is_writable && chain_.nr_spans_ != chain_.nr_readable_) {
    return Break("a descriptor to read from follows one to write to");
  }
  const Popped popped = Translate(
      address, length, is_writable ? GuestAccess::kWrite : GuestAccess::kRead, chain_.nr_spans_);
  if (popped != Popped::kChain) return popped;
  if (is_writable) {
    chain_.writable_size_ += length;
  } else {
    chain_.nr_readable_ = chain_.nr_spans_;
    chain_.readable_size_ += length;
  }
  return Popped::kChain;
}

Popped ChainBuilder::AddTable(uint64_t address, uint32_t length, bool is_linked) {
  constexpr uint32_t kEntry = sizeof(SplitDescriptor);
  const uint32_t nr_entries = length / kEntry;
  if (length % kEntry != 0 || nr_entries == 0 || nr_entries > max_descriptors_) {
    return Break(absl::StrCat("an indirect table of ", length, " bytes: not 1 to ",
                              max_descriptors_, " descriptors"));
  }
  size_t nr_spans = chain_.nr_spans_;
  const Popped found = Translate(address, length, GuestAccess::kRead, nr_spans);
  if (found != Popped::kChain) return found;
  // A copy, made before any check: the guest can't change what was checked (CVE-2026-93683,
  // CVE-2026-86848).
  if (table_.size() < nr_entries) table_.resize(nr_entries);
  auto* to = reinterpret_cast<uint8_t*>(table_.data());
  for (size_t i = chain_.nr_spans_; i < nr_spans; i++) {
    std::memcpy(to, chain_.spans_[i].data(), chain_.spans_[i].size());
    to += chain_.spans_[i].size();
  }
  asm volatile("" : : "r"(table_.data()) : "memory");

  uint32_t index = 0;
  for (uint32_t i = 0; i < nr_entries; i++) {
    const SplitDescriptor& entry = table_[index];
    // In the table of a packed ring, an id stands before the flags.
    const uint16_t flags = is_linked ? entry.flags : entry.next;
    if ((flags & kDescriptorIndirect) != 0) {
      return Break("an indirect table inside of an indirect table");
    }
    const Popped popped = Add(entry.address, entry.length, (flags & kDescriptorWrite) != 0);
    if (popped != Popped::kChain) return popped;
    if (is_linked && (flags & kDescriptorNext) == 0) return Popped::kChain;
    index = is_linked ? entry.next : index + 1;
    if (is_linked && index >= nr_entries) {
      return Break(absl::StrCat("descriptor ", index, " of an indirect table of ", nr_entries));
    }
  }
  if (is_linked) return Break("a loop in an indirect table");
  return Popped::kChain;
}

}  // namespace gmem::vhost::virtqueue_internal
