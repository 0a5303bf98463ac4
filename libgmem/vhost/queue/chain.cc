// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/chain.h"

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
#include "gmem/vhost/guest_memory_map.h"
#include "vhost/queue/chain_builder.h"

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

namespace virtqueue_internal {

ChainBuilder::Outcome ChainBuilder::Broken(absl::string_view why) {
  error_ = internal::CheckError(EBADMSG, why);
  return Outcome::kBroken;
}

ChainBuilder::Outcome ChainBuilder::Translate(uint64_t address, uint64_t length, GuestAccess access,
                                              size_t& nr_spans) {
  while (true) {
    const size_t before = nr_spans;
    const GuestMemoryMap::Result result = memory_.Translate(
        address, length, access, absl::MakeSpan(chain_.spans_), nr_spans, miss_address_);
    switch (result) {
      case GuestMemoryMap::Result::kOk:
        return Outcome::kOk;
      case GuestMemoryMap::Result::kMiss:
        miss_access_ = access;
        return Outcome::kMiss;
      case GuestMemoryMap::Result::kNotMemory:
        return Broken(absl::StrCat("a descriptor of ", length, " bytes at 0x", absl::Hex(address),
                                   ": 0x", absl::Hex(miss_address_), " isn't the guest's memory"));
      case GuestMemoryMap::Result::kTooMany:
        // Only until the chain has had its largest content.
        if (chain_.spans_.size() >= Chain::kMaxSpans) {
          return Broken(absl::StrCat("a chain of more than ", Chain::kMaxSpans, " pieces"));
        }
        constexpr size_t kFirstSpans = 64;
        chain_.spans_.resize(std::max(kFirstSpans, 2 * chain_.spans_.size()));
        nr_spans = before;
    }
  }
}

ChainBuilder::Outcome ChainBuilder::Add(uint64_t address, uint32_t length, bool is_writable) {
  if (++nr_descriptors_ > Chain::kMaxDescriptors) {
    return Broken(absl::StrCat("a chain of more than ", Chain::kMaxDescriptors, " descriptors"));
  }
  if (!is_writable && chain_.nr_spans_ != chain_.nr_readable_) {
    return Broken("a descriptor to read from follows one to write to");
  }
  const Outcome outcome = Translate(
      address, length, is_writable ? GuestAccess::kWrite : GuestAccess::kRead, chain_.nr_spans_);
  if (outcome != Outcome::kOk) return outcome;
  if (is_writable) {
    chain_.writable_size_ += length;
  } else {
    chain_.nr_readable_ = chain_.nr_spans_;
    chain_.readable_size_ += length;
  }
  return Outcome::kOk;
}

ChainBuilder::Outcome ChainBuilder::AddTable(uint64_t address, uint32_t length, bool is_linked) {
  constexpr uint32_t kEntry = sizeof(SplitDescriptor);
  const uint32_t nr_entries = length / kEntry;
  if (length % kEntry != 0 || nr_entries == 0 || nr_entries > Chain::kMaxDescriptors) {
    return Broken(absl::StrCat("an indirect table of ", length, " bytes: not 1 to ",
                               Chain::kMaxDescriptors, " descriptors"));
  }
  // On the stack, and copied before anything in it is looked at: the guest can't change
  // what was checked (CVE-2026-93683, CVE-2026-86848).
  std::array<SplitDescriptor, Chain::kMaxDescriptors> table;
  size_t nr_spans = chain_.nr_spans_;
  const Outcome outcome = Translate(address, length, GuestAccess::kRead, nr_spans);
  if (outcome != Outcome::kOk) return outcome;
  auto* to = reinterpret_cast<uint8_t*>(table.data());
  for (size_t i = chain_.nr_spans_; i < nr_spans; i++) {
    std::memcpy(to, chain_.spans_[i].data(), chain_.spans_[i].size());
    to += chain_.spans_[i].size();
  }
  asm volatile("" : : "r"(table.data()) : "memory");

  uint32_t index = 0;
  for (uint32_t i = 0; i < nr_entries; i++) {
    const SplitDescriptor& entry = table[index];
    // In a packed ring's table the flags are last, behind an id.
    const uint16_t flags = is_linked ? entry.flags : entry.next;
    if ((flags & kDescriptorIndirect) != 0) {
      return Broken("an indirect table inside of an indirect table");
    }
    const Outcome added = Add(entry.address, entry.length, (flags & kDescriptorWrite) != 0);
    if (added != Outcome::kOk) return added;
    if (is_linked && (flags & kDescriptorNext) == 0) return Outcome::kOk;
    index = is_linked ? entry.next : index + 1;
    if (is_linked && index >= nr_entries) {
      return Broken(absl::StrCat("descriptor ", index, " of an indirect table of ", nr_entries));
    }
  }
  if (is_linked) return Broken("a loop in an indirect table");
  return Outcome::kOk;
}

}  // namespace virtqueue_internal
}  // namespace gmem::vhost
