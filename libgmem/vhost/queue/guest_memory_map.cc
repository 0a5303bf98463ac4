// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/guest_memory_map.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// The unit in which a file can be mapped, in bytes.
absl::StatusOr<uint64_t> PageSizeOf(int fd) {
  struct statfs info = {};
  if (fstatfs(fd, &info) != 0)
    return ErrnoError(errno, "can't get the page size of a region's file");
  if (info.f_type != HUGETLBFS_MAGIC) return HostPageSize().value();
  return static_cast<uint64_t>(info.f_bsize);
}

absl::StatusOr<uint64_t> FileSize(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return ErrnoError(errno, "can't get the size of a region's file");
  if (S_ISREG(info.st_mode)) return static_cast<uint64_t>(info.st_size);
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end < 0) return ErrnoError(errno, "the file of a region has no size");
  return static_cast<uint64_t>(end);
}

constexpr uint64_t kMaxAddress = std::numeric_limits<uint64_t>::max();

bool Wraps(uint64_t start, uint64_t size) { return size > kMaxAddress - start; }

std::string Describe(const MemoryRegion& region) {
  return absl::StrCat("region of ", region.size, " bytes at 0x", absl::Hex(region.guest_address));
}

absl::Status CheckRegion(const MemoryRegion& region) {
  if (region.size == 0) return CheckError(EINVAL, absl::StrCat(Describe(region), ": is empty"));
  if (Wraps(region.guest_address, region.size) || Wraps(region.user_address, region.size) ||
      Wraps(region.mmap_offset, region.size)) {
    return CheckError(
        EINVAL, absl::StrCat(Describe(region), ", user address 0x", absl::Hex(region.user_address),
                             ", file offset 0x", absl::Hex(region.mmap_offset), ": wraps around"));
  }
  return absl::OkStatus();
}

bool Overlap(const MemoryRegion& a, const MemoryRegion& b) {
  return a.guest_address < b.guest_address + b.size && b.guest_address < a.guest_address + a.size;
}

struct Slot {
  MemoryRegion region;
  Mapping mapping;
  // The region in it.
  GuestSpan memory;
};
// By guest address.
using Slots = std::vector<std::unique_ptr<Slot>>;

// The first slot whose region ends behind @address.
template <typename AnySlots>
auto FirstEndingBehind(AnySlots& slots, uint64_t address) {
  return std::partition_point(slots.begin(), slots.end(), [&](const auto& slot) {
    return slot->region.guest_address + slot->region.size <= address;
  });
}

absl::Status Insert(Slots& slots, const MemoryRegion& region, int fd) {
  GMEM_RETURN_IF_ERROR(CheckRegion(region));
  if (slots.size() == kMaxMemorySlots) {
    return CheckError(ENOSPC, absl::StrCat(Describe(region), ": ", kMaxMemorySlots,
                                           " regions are there, which is the limit"));
  }
  const auto next = FirstEndingBehind(slots, region.guest_address);
  if (next != slots.end() && Overlap((*next)->region, region)) {
    return CheckError(
        EEXIST, absl::StrCat(Describe(region), ": overlaps with the ", Describe((*next)->region)));
  }
  GMEM_ASSIGN_OR_RETURN(const uint64_t file_size, FileSize(fd));
  if (region.mmap_offset + region.size > file_size) {
    return CheckError(EINVAL, absl::StrCat(Describe(region), " from offset ", region.mmap_offset,
                                           " on: the file has only ", file_size, " bytes"));
  }
  GMEM_ASSIGN_OR_RETURN(const uint64_t page, PageSizeOf(fd));
  const uint64_t before = region.mmap_offset % page;
  const uint64_t start = region.mmap_offset - before;
  // The range lies in the file, so rounding up doesn't wrap.
  const uint64_t size = (before + region.size + page - 1) / page * page;
  GMEM_ASSIGN_OR_RETURN(Mapping mapping,
                        Mapping::OfFile(fd, {.offset = ByteOffset(start), .size = ByteSize(size)}));
  const GuestSpan memory = mapping.span().subspan(before, region.size);
  slots.insert(next, std::make_unique<Slot>(
                         Slot{.region = region, .mapping = std::move(mapping), .memory = memory}));
  return absl::OkStatus();
}

}  // namespace

struct __attribute__((visibility("hidden"))) GuestMemoryMap::State {
  // Is there room for @nr_more removed regions?
  absl::Status CheckRetired(size_t nr_more) const;
  const Slot* FindGuest(uint64_t address) const;
  const Slot* FindUser(uint64_t address) const;

  Slots slots;
  // Removed regions, in no order.
  Slots retired;
  const Iotlb* iotlb = nullptr;
  bool iotlb_gives_guest = false;
};

GuestMemoryMap::GuestMemoryMap() : state_(std::make_unique<State>()) {}
GuestMemoryMap::GuestMemoryMap(GuestMemoryMap&& other) noexcept = default;
GuestMemoryMap& GuestMemoryMap::operator=(GuestMemoryMap&& other) noexcept = default;
GuestMemoryMap::~GuestMemoryMap() = default;

absl::Status GuestMemoryMap::Replace(absl::Span<const MemoryRegion> regions, const FdList& fds) {
  if (fds.size() != regions.size()) {
    return CheckError(EINVAL, absl::StrCat(regions.size(), " regions come with ", fds.size(),
                                           " descriptors: each needs one"));
  }
  GMEM_RETURN_IF_ERROR(state_->CheckRetired(state_->slots.size()));
  Slots slots;
  for (size_t i = 0; i < regions.size(); i++) {
    GMEM_RETURN_IF_ERROR(Insert(slots, regions[i], fds.get(i)));
  }
  Clear();
  state_->slots = std::move(slots);
  return absl::OkStatus();
}

absl::Status GuestMemoryMap::Add(const MemoryRegion& region, int fd) {
  return Insert(state_->slots, region, fd);
}

absl::Status GuestMemoryMap::Remove(const MemoryRegion& region) {
  const auto slot = std::find_if(state_->slots.begin(), state_->slots.end(), [&](const auto& s) {
    return s->region.guest_address == region.guest_address && s->region.size == region.size &&
           s->region.user_address == region.user_address;
  });
  if (slot == state_->slots.end()) {
    return CheckError(ENOENT, absl::StrCat("there is no ", Describe(region)));
  }
  GMEM_RETURN_IF_ERROR(state_->CheckRetired(1));
  state_->retired.push_back(std::move(*slot));
  state_->slots.erase(slot);
  return absl::OkStatus();
}

absl::Status GuestMemoryMap::State::CheckRetired(size_t nr_more) const {
  if (retired.size() + nr_more <= kMaxRetired) return absl::OkStatus();
  return CheckError(EBUSY,
                    absl::StrCat(retired.size(), " removed regions are still mapped, because ",
                                 "chains are in flight: wait until they are done"));
}

void GuestMemoryMap::Clear() {
  std::move(state_->slots.begin(), state_->slots.end(), std::back_inserter(state_->retired));
  state_->slots.clear();
}

size_t GuestMemoryMap::size() const { return state_->slots.size(); }
const MemoryRegion& GuestMemoryMap::region(size_t i) const { return state_->slots[i]->region; }
GuestSpan GuestMemoryMap::memory(size_t i) const { return state_->slots[i]->memory; }
void GuestMemoryMap::DropRetired() { state_->retired.clear(); }

void GuestMemoryMap::set_iotlb(const Iotlb* iotlb, bool gives_guest) {
  state_->iotlb = iotlb;
  state_->iotlb_gives_guest = gives_guest;
}

const Slot* GuestMemoryMap::State::FindGuest(uint64_t address) const {
  const auto slot = FirstEndingBehind(slots, address);
  if (slot == slots.end() || (*slot)->region.guest_address > address) return nullptr;
  return slot->get();
}

// Looks at all regions: user addresses are in no order, since the same memory may have two guest
// addresses.
const Slot* GuestMemoryMap::State::FindUser(uint64_t address) const {
  for (const auto& slot : slots) {
    const MemoryRegion& region = slot->region;
    if (address >= region.user_address && address - region.user_address < region.size) {
      return slot.get();
    }
  }
  return nullptr;
}

GuestSpan GuestMemoryMap::FromUser(uint64_t address, uint64_t size) const {
  const Slot* const slot = state_->FindUser(address);
  if (slot == nullptr) return {};
  const uint64_t offset = address - slot->region.user_address;
  if (size > slot->region.size - offset) return {};
  return slot->memory.subspan(offset, size);
}

GuestSpan GuestMemoryMap::FromGuest(uint64_t address, uint64_t size) const {
  const Slot* const slot = state_->FindGuest(address);
  if (slot == nullptr) return {};
  const uint64_t offset = address - slot->region.guest_address;
  if (size > slot->region.size - offset) return {};
  return slot->memory.subspan(offset, size);
}

GuestMemoryMap::Result GuestMemoryMap::Translate(uint64_t address, uint64_t size,
                                                 GuestAccess access, absl::Span<GuestSpan> spans,
                                                 size_t& nr_spans, uint64_t& failed_at) const {
  const State& state = *state_;
  failed_at = address;
  if (Wraps(address, size)) return Result::kNotMemory;
  while (size > 0) {
    failed_at = address;
    const Slot* slot = nullptr;
    uint64_t offset = 0;
    uint64_t piece = size;
    if (state.iotlb != nullptr) {
      const std::optional<Iotlb::Translation> found = state.iotlb->Find(address);
      if (!found || (found->permissions & static_cast<uint8_t>(access)) == 0) {
        return Result::kMiss;
      }
      slot = state.iotlb_gives_guest ? state.FindGuest(found->user_address)
                                     : state.FindUser(found->user_address);
      if (slot == nullptr) return Result::kNotMemory;
      offset = found->user_address -
               (state.iotlb_gives_guest ? slot->region.guest_address : slot->region.user_address);
      piece = std::min(piece, found->size);
    } else {
      slot = state.FindGuest(address);
      if (slot == nullptr) return Result::kNotMemory;
      offset = address - slot->region.guest_address;
    }
    piece = std::min(piece, slot->region.size - offset);
    if (nr_spans == spans.size()) return Result::kTooMany;
    spans[nr_spans++] = slot->memory.subspan(offset, piece);
    address += piece;
    size -= piece;
  }
  return Result::kOk;
}

std::optional<uint64_t> GuestMemoryMap::ToGuest(const uint8_t* memory) const {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  // A chain in flight may point into a region that was removed meanwhile.
  for (const Slots* const slots : {&state_->slots, &state_->retired}) {
    for (const auto& slot : *slots) {
      const auto start = reinterpret_cast<uintptr_t>(slot->memory.data());
      if (address >= start && address - start < slot->memory.size()) {
        return slot->region.guest_address + (address - start);
      }
    }
  }
  return std::nullopt;
}

uint64_t GuestMemoryMap::guest_end() const {
  if (state_->slots.empty()) return 0;
  const MemoryRegion& last = state_->slots.back()->region;
  return last.guest_address + last.size;
}

}  // namespace gmem::vhost
