// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/guest_memory_map.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
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
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/guest_space.h"
#include "vhost/queue/peer_pages.h"
#include "vhost/queue/probes.h"
#include "vhost/wire/budget_share.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;
using virtqueue_internal::GuestSpace;
using virtqueue_internal::PeerPages;
using wire_internal::BudgetShare;

// The unit in which a file can be mapped, in bytes.
absl::StatusOr<uint64_t> PageSizeOf(int fd) {
  struct statfs info = {};
  if (fstatfs(fd, &info) != 0)
    return ErrnoError(errno, "can't get the page size of a region's file");
  if (info.f_type != HUGETLBFS_MAGIC) return HostPageSize().value();
  return static_cast<uint64_t>(info.f_bsize);
}

struct File {
  dev_t device = 0;
  ino_t inode = 0;
  uint64_t size = 0;
  bool is_regular = false;

  // Only if that is known: files without a name, as of a driver, may share one inode.
  bool IsSame(const File& other) const {
    return is_regular && other.is_regular && device == other.device && inode == other.inode;
  }
};

absl::StatusOr<File> FileOf(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return ErrnoError(errno, "can't get the size of a region's file");
  File file = {.device = info.st_dev,
               .inode = info.st_ino,
               .size = static_cast<uint64_t>(info.st_size),
               .is_regular = S_ISREG(info.st_mode)};
  if (file.is_regular) return file;
  const off_t end = lseek(fd, 0, SEEK_END);
  if (end < 0) return ErrnoError(errno, "the file of a region has no size");
  file.size = static_cast<uint64_t>(end);
  return file;
}

uintptr_t AddressOf(GuestSpan memory) { return reinterpret_cast<uintptr_t>(memory.data()); }

bool IsIn(GuestSpan memory, const uint8_t* place) {
  const auto address = reinterpret_cast<uintptr_t>(place);
  return address >= AddressOf(memory) && address - AddressOf(memory) < memory.size();
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
  Slot(const MemoryRegion& region, const File& file, BudgetShare share,
       std::shared_ptr<GuestSpace> space, GuestSpan pages, GuestSpan memory)
      : region(region),
        file(file),
        share(std::move(share)),
        space(std::move(space)),
        pages(pages),
        memory(memory),
        watched(pages) {
    GMEM_PROBE2(map, region.guest_address, region.size);
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() {
    GMEM_PROBE2(unmap, region.guest_address, region.size);
    watched.Reset();
    space->Unmap(pages);
  }

  const MemoryRegion region;
  const File file;
  const BudgetShare share;
  const std::shared_ptr<GuestSpace> space;
  // The mapped pages, and the region in them.
  const GuestSpan pages;
  const GuestSpan memory;
  PeerPages watched;
};
// By guest address. Chains in flight share the slots that they point into.
using Slots = std::vector<std::shared_ptr<Slot>>;

// The first slot whose region ends behind @address.
template <typename AnySlots>
auto FirstEndingBehind(AnySlots& slots, uint64_t address) {
  return std::partition_point(slots.begin(), slots.end(), [&](const auto& slot) {
    return slot->region.guest_address + slot->region.size <= address;
  });
}

// Maps a region, where it is contiguous with its neighbours if they are so in the guest. @next: the
// first slot behind it. @reach: bytes from its start on for which more regions will come.
absl::StatusOr<std::shared_ptr<Slot>> MapRegion(const Slots& slots, Slots::const_iterator next,
                                                const MemoryRegion& region, const File& file,
                                                int fd, uint64_t reach, uint64_t& slack_left) {
  GMEM_ASSIGN_OR_RETURN(const uint64_t page, PageSizeOf(fd));
  GMEM_ASSIGN_OR_RETURN(BudgetShare share, BudgetShare::Take(BudgetShare::Kind::kMappings, 2));
  const uint64_t before = region.mmap_offset % page;
  // The range lies in the file, so rounding up doesn't wrap.
  const GuestSpace::Pages pages = {.guest_address = region.guest_address - before,
                                   .size = (before + region.size + page - 1) / page * page,
                                   .page_size = page,
                                   .offset = region.mmap_offset - before,
                                   .fd = fd};
  std::shared_ptr<GuestSpace> space;
  if (next != slots.begin() && (*std::prev(next))->space->HasRoom(pages)) {
    space = (*std::prev(next))->space;
  } else if (next != slots.end() && (*next)->space->HasRoom(pages)) {
    space = (*next)->space;
  } else {
    GMEM_ASSIGN_OR_RETURN(space, GuestSpace::Reserve(pages, reach, slack_left));
  }
  GMEM_ASSIGN_OR_RETURN(const GuestSpan mapped, space->Map(pages));
  return std::make_shared<Slot>(region, file, std::move(share), std::move(space), mapped,
                                mapped.subspan(before, region.size));
}

// Takes the slot of @old over that is the same.
absl::Status Insert(Slots& slots, const Slots& old, const MemoryRegion& region, int fd,
                    uint64_t reach, uint64_t& slack_left) {
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
  GMEM_ASSIGN_OR_RETURN(const File file, FileOf(fd));
  if (region.mmap_offset + region.size > file.size) {
    return CheckError(EINVAL, absl::StrCat(Describe(region), " from offset ", region.mmap_offset,
                                           " on: the file has only ", file.size, " bytes"));
  }
  const auto same = std::find_if(old.begin(), old.end(), [&](const auto& slot) {
    return slot->file.IsSame(file) && slot->region == region;
  });
  if (same != old.end()) {
    slots.insert(next, *same);
    return absl::OkStatus();
  }
  GMEM_ASSIGN_OR_RETURN(std::shared_ptr<Slot> slot,
                        MapRegion(slots, next, region, file, fd, reach, slack_left));
  slots.insert(next, std::move(slot));
  return absl::OkStatus();
}

// The slots of a table, which may be in any order. Takes those of @old over that are the same.
absl::StatusOr<Slots> MapTable(const Slots& old, absl::Span<const MemoryRegion> regions,
                               const FdList& fds, uint64_t& slack_left) {
  Slots slots;
  for (size_t i = 0; i < regions.size(); i++) {
    uint64_t end = regions[i].guest_address;
    for (const MemoryRegion& region : regions) {
      if (!Wraps(region.guest_address, region.size)) {
        end = std::max(end, region.guest_address + region.size);
      }
    }
    GMEM_RETURN_IF_ERROR(
        Insert(slots, old, regions[i], fds.get(i), end - regions[i].guest_address, slack_left));
  }
  return slots;
}

// Does a region continue another one in the guest, but not here?
bool HasSeam(const Slots& slots) {
  return std::adjacent_find(slots.begin(), slots.end(), [](const auto& a, const auto& b) {
           return a->region.guest_address + a->region.size == b->region.guest_address &&
                  a->space != b->space;
         }) != slots.end();
}

// Does @b continue @a, in the guest, in this process and by the kind of @address?
bool Continues(const Slot& a, const Slot& b, uint64_t MemoryRegion::*address) {
  return a.region.guest_address + a.region.size == b.region.guest_address &&
         a.region.*address + a.region.size == b.region.*address &&
         a.memory.data() + a.memory.size() == b.memory.data();
}

// The memory from @offset of @slot on; empty unless @size bytes are there.
GuestSpan FindContiguous(const Slots& slots, Slots::const_iterator slot, uint64_t offset,
                         uint64_t size, uint64_t MemoryRegion::*address) {
  uint64_t there = (*slot)->region.size - offset;
  for (auto last = slot; there < size; ++last) {
    const auto next = std::next(last);
    if (next == slots.end() || !Continues(**last, **next, address)) return {};
    there += (*next)->region.size;
  }
  return {(*slot)->memory.data() + offset, size};
}

}  // namespace

struct __attribute__((visibility("hidden"))) GuestMemoryMap::State {
  // Is there room for @nr_more removed regions?
  absl::Status CheckRetired(size_t nr_more) const;
  // slots.end() if there is none.
  Slots::const_iterator FindGuest(uint64_t address) const;
  Slots::const_iterator FindUser(uint64_t address) const;
  // The index of the slot at @memory; slots.size() if there is none.
  size_t FindMemory(const uint8_t* memory) const;
  // Call this after each change of the slots.
  void IndexMemory();

  // Is @address, a guest or a user address, in a region that Remove() has taken away?
  bool WasRemoved(uint64_t address, uint64_t MemoryRegion::*kind) const;
  void NoteRemoved(const MemoryRegion& region);
  void NoteAdded(const MemoryRegion& region);

  uint64_t slack_left = GuestSpace::kMaxSlack;
  Slots slots;
  // The indices of the slots, by the addresses of their memory.
  std::vector<size_t> by_memory;
  // Removed regions, in no order.
  Slots retired;
  // The oldest first; without the parts whose place has memory again.
  std::vector<MemoryRegion> removed;
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
  GMEM_ASSIGN_OR_RETURN(Slots slots, MapTable(state_->slots, regions, fds, state_->slack_left));
  if (HasSeam(slots)) {
    // A region that was kept keeps its neighbour from its place.
    GMEM_ASSIGN_OR_RETURN(slots, MapTable({}, regions, fds, state_->slack_left));
  }
  std::erase_if(state_->slots, [&](const auto& slot) {
    return std::find(slots.begin(), slots.end(), slot) != slots.end();
  });
  Clear();
  state_->removed.clear();
  state_->slots = std::move(slots);
  state_->IndexMemory();
  return absl::OkStatus();
}

absl::Status GuestMemoryMap::Add(const MemoryRegion& region, int fd) {
  GMEM_RETURN_IF_ERROR(Insert(state_->slots, {}, region, fd, region.size, state_->slack_left));
  state_->IndexMemory();
  state_->NoteAdded(region);
  return absl::OkStatus();
}

void GuestMemoryMap::State::NoteRemoved(const MemoryRegion& region) {
  if (removed.size() == kMaxMemorySlots) removed.erase(removed.begin());
  removed.push_back(region);
}

// A removed region may come back in pieces: what isn't there yet is still removed.
void GuestMemoryMap::State::NoteAdded(const MemoryRegion& region) {
  const uint64_t end = region.guest_address + region.size;
  for (const MemoryRegion& old : std::exchange(removed, {})) {
    if (!Overlap(old, region)) {
      NoteRemoved(old);
      continue;
    }
    const uint64_t old_end = old.guest_address + old.size;
    if (old.guest_address < region.guest_address) {
      MemoryRegion before = old;
      before.size = region.guest_address - old.guest_address;
      NoteRemoved(before);
    }
    if (end < old_end) {
      MemoryRegion behind = old;
      behind.guest_address = end;
      behind.user_address += end - old.guest_address;
      behind.size = old_end - end;
      NoteRemoved(behind);
    }
  }
}

bool GuestMemoryMap::State::WasRemoved(uint64_t address, uint64_t MemoryRegion::*kind) const {
  return std::any_of(removed.begin(), removed.end(), [&](const MemoryRegion& region) {
    return address >= region.*kind && address - region.*kind < region.size;
  });
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
  state_->NoteRemoved((*slot)->region);
  state_->retired.push_back(std::move(*slot));
  state_->slots.erase(slot);
  state_->IndexMemory();
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
  state_->IndexMemory();
}

size_t GuestMemoryMap::size() const { return state_->slots.size(); }
const MemoryRegion& GuestMemoryMap::region(size_t i) const { return state_->slots[i]->region; }
GuestSpan GuestMemoryMap::memory(size_t i) const { return state_->slots[i]->memory; }
void GuestMemoryMap::DropRetired() {
  std::erase_if(state_->retired, [](const auto& slot) { return slot.use_count() == 1; });
}
size_t GuestMemoryMap::nr_retired() const { return state_->retired.size(); }
bool GuestMemoryMap::is_broken() const {
  const auto is_broken = [](const auto& slot) { return slot->watched.is_broken(); };
  return std::any_of(state_->slots.begin(), state_->slots.end(), is_broken) ||
         std::any_of(state_->retired.begin(), state_->retired.end(), is_broken);
}

void GuestMemoryMap::State::IndexMemory() {
  by_memory.resize(slots.size());
  std::iota(by_memory.begin(), by_memory.end(), size_t{0});
  std::sort(by_memory.begin(), by_memory.end(), [&](size_t a, size_t b) {
    return AddressOf(slots[a]->memory) < AddressOf(slots[b]->memory);
  });
}

size_t GuestMemoryMap::State::FindMemory(const uint8_t* memory) const {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const auto behind = std::partition_point(by_memory.begin(), by_memory.end(), [&](size_t i) {
    return AddressOf(slots[i]->memory) <= address;
  });
  if (behind == by_memory.begin()) return slots.size();
  const size_t slot = *std::prev(behind);
  return IsIn(slots[slot]->memory, memory) ? slot : slots.size();
}

std::shared_ptr<const GuestSpan> GuestMemoryMap::Hold(const uint8_t* memory) const {
  const size_t i = state_->FindMemory(memory);
  if (i == state_->slots.size()) return nullptr;
  return {state_->slots[i], &state_->slots[i]->memory};
}

void GuestMemoryMap::HoldAll(absl::Span<const GuestSpan> memory,
                             std::vector<std::shared_ptr<const GuestSpan>>& holds) const {
  // A hostile guest lets the pieces alternate between regions.
  std::bitset<kMaxMemorySlots> is_held;
  for (const GuestSpan span : memory) {
    if (span.empty() || (!holds.empty() && IsIn(*holds.back(), span.data()))) continue;
    const size_t i = state_->FindMemory(span.data());
    if (i == state_->slots.size() || is_held[i]) continue;
    is_held[i] = true;
    holds.emplace_back(state_->slots[i], &state_->slots[i]->memory);
  }
}

void GuestMemoryMap::set_iotlb(const Iotlb* iotlb, bool gives_guest) {
  state_->iotlb = iotlb;
  state_->iotlb_gives_guest = gives_guest;
}

Slots::const_iterator GuestMemoryMap::State::FindGuest(uint64_t address) const {
  const auto slot = FirstEndingBehind(slots, address);
  if (slot == slots.end() || (*slot)->region.guest_address > address) return slots.end();
  return slot;
}

// Looks at all regions: user addresses are in no order, since the same memory may have two guest
// addresses.
Slots::const_iterator GuestMemoryMap::State::FindUser(uint64_t address) const {
  return std::find_if(slots.begin(), slots.end(), [&](const auto& slot) {
    const MemoryRegion& region = slot->region;
    return address >= region.user_address && address - region.user_address < region.size;
  });
}

GuestSpan GuestMemoryMap::FromUser(uint64_t address, uint64_t size) const {
  const auto slot = state_->FindUser(address);
  if (slot == state_->slots.end()) return {};
  return FindContiguous(state_->slots, slot, address - (*slot)->region.user_address, size,
                        &MemoryRegion::user_address);
}

GuestSpan GuestMemoryMap::FromGuest(uint64_t address, uint64_t size) const {
  const auto slot = state_->FindGuest(address);
  if (slot == state_->slots.end()) return {};
  return FindContiguous(state_->slots, slot, address - (*slot)->region.guest_address, size,
                        &MemoryRegion::guest_address);
}

GuestMemoryMap::Result GuestMemoryMap::Translate(uint64_t address, uint64_t size,
                                                 GuestAccess access, absl::Span<GuestSpan> spans,
                                                 size_t& nr_spans, uint64_t& failed_at) const {
  const State& state = *state_;
  failed_at = address;
  if (Wraps(address, size)) return Result::kNotMemory;
  while (size > 0) {
    failed_at = address;
    Slots::const_iterator found_slot;
    uint64_t offset = 0;
    uint64_t piece = size;
    if (state.iotlb != nullptr) {
      const std::optional<Iotlb::Translation> found = state.iotlb->Find(address);
      if (!found || (found->permissions & static_cast<uint8_t>(access)) == 0) {
        return Result::kMiss;
      }
      const auto kind =
          state.iotlb_gives_guest ? &MemoryRegion::guest_address : &MemoryRegion::user_address;
      found_slot = state.iotlb_gives_guest ? state.FindGuest(found->user_address)
                                           : state.FindUser(found->user_address);
      if (found_slot == state.slots.end()) {
        return state.WasRemoved(found->user_address, kind) ? Result::kRemoved : Result::kNotMemory;
      }
      const MemoryRegion& region = (*found_slot)->region;
      offset = found->user_address - region.*kind;
      piece = std::min(piece, found->size);
    } else {
      found_slot = state.FindGuest(address);
      if (found_slot == state.slots.end()) {
        return state.WasRemoved(address, &MemoryRegion::guest_address) ? Result::kRemoved
                                                                       : Result::kNotMemory;
      }
      offset = address - (*found_slot)->region.guest_address;
    }
    const Slot& slot = **found_slot;
    piece = std::min(piece, slot.region.size - offset);
    if (nr_spans == spans.size()) return Result::kTooMany;
    spans[nr_spans++] = slot.memory.subspan(offset, piece);
    address += piece;
    size -= piece;
  }
  return Result::kOk;
}

std::optional<uint64_t> GuestMemoryMap::ToGuest(const uint8_t* memory) const {
  const auto guest_address = [memory](const Slot& slot) {
    return slot.region.guest_address + static_cast<uint64_t>(memory - slot.memory.data());
  };
  const size_t i = state_->FindMemory(memory);
  if (i < state_->slots.size()) return guest_address(*state_->slots[i]);
  // A chain in flight may point into a region that was removed meanwhile.
  for (const auto& slot : state_->retired) {
    if (IsIn(slot->memory, memory)) return guest_address(*slot);
  }
  return std::nullopt;
}

uint64_t GuestMemoryMap::guest_end() const {
  if (state_->slots.empty()) return 0;
  const MemoryRegion& last = state_->slots.back()->region;
  return last.guest_address + last.size;
}

}  // namespace gmem::vhost
