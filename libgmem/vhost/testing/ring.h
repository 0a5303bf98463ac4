// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest's memory and a driver's side of a virtqueue. Both are raw, so that tests can break every
// rule.
#ifndef GMEM_VHOST_TESTING_RING_H_
#define GMEM_VHOST_TESTING_RING_H_

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost::doubles {

inline UniqueFd NewFile(uint64_t size) {
  UniqueFd fd(memfd_create("guest", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

// The guest sees the memory from kGuest on, the front-end from kUser on.
class TestGuest {
 public:
  static constexpr uint64_t kGuest = 0x100000;
  static constexpr uint64_t kUser = 0x7f0000000000;
  static constexpr uint64_t kSize = 0x100000;
  // The driver's layout of the memory: the parts of a ring, indirect tables, data.
  static constexpr uint64_t kDescriptors = 0;
  static constexpr uint64_t kAvailable = 0x20000;
  static constexpr uint64_t kUsed = 0x30000;
  static constexpr uint64_t kTable = 0x40000;
  static constexpr uint64_t kData = 0x80000;

  TestGuest() : file_(NewFile(kSize)) {
    auto mapping = Mapping::OfFile(file_.get(), {.size = ByteSize(kSize)});
    EXPECT_TRUE(mapping.ok());
    mapping_ = *std::move(mapping);
  }

  int fd() const { return file_.get(); }
  MemoryRegion region() const {
    return {.guest_address = kGuest, .size = kSize, .user_address = kUser, .mmap_offset = 0};
  }
  uint8_t* at(uint64_t offset) const { return mapping_.data() + offset; }
  template <typename T>
  void Put(uint64_t offset, T value) const {
    std::memcpy(at(offset), &value, sizeof(value));
  }
  template <typename T>
  T Get(uint64_t offset) const {
    T value;
    std::memcpy(&value, at(offset), sizeof(value));
    return value;
  }

 private:
  UniqueFd file_;
  Mapping mapping_;
};

// The default size of a ring, and the guest address of the ring's buffers.
inline constexpr uint16_t kQueueSize = 8;
inline constexpr uint64_t kData = TestGuest::kGuest + TestGuest::kData;

inline constexpr uint16_t kNext = 1;
inline constexpr uint16_t kWrite = 2;
inline constexpr uint16_t kIndirect = 4;

// One descriptor of a chain; the address is a guest address.
struct Piece {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t flags = 0;
};

struct Used {
  uint32_t id = 0;
  uint32_t written = 0;
};

// A driver for both kinds of rings.
class TestRing {
 public:
  TestRing(TestGuest& guest, uint16_t size, bool is_packed)
      : guest_(guest), size_(size), is_packed_(is_packed) {}

  // Makes a chain available; its descriptors start at the first free one.
  uint16_t Add(const std::vector<Piece>& pieces) {
    return is_packed_ ? AddPacked(pieces) : AddSplit(pieces);
  }

  std::optional<Used> TakeUsed() { return is_packed_ ? TakePacked() : TakeSplit(); }

  // Sets the next available index of a split ring to any value.
  void SetAvailableIndex(uint16_t index) { guest_.Put(TestGuest::kAvailable + 2, index); }
  void PutSplit(uint16_t index, const Piece& piece, uint16_t next) {
    const uint64_t at = TestGuest::kDescriptors + 16 * index;
    guest_.Put(at, piece.address);
    guest_.Put(at + 8, piece.length);
    guest_.Put(at + 12, piece.flags);
    guest_.Put(at + 14, next);
  }
  // Writes an entry of an indirect table. The format of an entry depends on the kind of ring.
  void PutTable(uint16_t index, const Piece& piece, uint16_t next) {
    const uint64_t at = TestGuest::kTable + 16 * index;
    guest_.Put(at, piece.address);
    guest_.Put(at + 8, piece.length);
    guest_.Put(at + 12, is_packed_ ? uint16_t{0} : piece.flags);
    guest_.Put(at + 14, is_packed_ ? piece.flags : next);
  }
  uint16_t next() const { return next_; }
  void set_next(uint16_t next) { next_ = next; }

 private:
  uint16_t AddSplit(const std::vector<Piece>& pieces) {
    const uint16_t head = free_;
    for (size_t i = 0; i < pieces.size(); i++) {
      Piece piece = pieces[i];
      if (i + 1 < pieces.size()) piece.flags |= kNext;
      const auto at = free_;
      free_ = static_cast<uint16_t>((free_ + 1) % size_);
      PutSplit(at, piece, free_);
    }
    guest_.Put(TestGuest::kAvailable + 4 + 2 * (next_ % size_), head);
    SetAvailableIndex(++next_);
    return head;
  }

  uint16_t AddPacked(const std::vector<Piece>& pieces) {
    const uint16_t id = free_++;
    const uint16_t head = next_;
    uint16_t head_flags = 0;
    for (size_t i = 0; i < pieces.size(); i++) {
      uint16_t flags = pieces[i].flags | (i + 1 < pieces.size() ? kNext : 0);
      flags |= wrap_ ? 1 << 7 : 1 << 15;
      const uint64_t at = TestGuest::kDescriptors + 16 * next_;
      guest_.Put(at, pieces[i].address);
      guest_.Put(at + 8, pieces[i].length);
      guest_.Put(at + 12, id);
      if (i == 0) {
        head_flags = flags;
      } else {
        guest_.Put(at + 14, flags);
      }
      if (++next_ == size_) {
        next_ = 0;
        wrap_ = !wrap_;
      }
    }
    guest_.Put(TestGuest::kDescriptors + 16 * head + 14, head_flags);
    lengths_.resize(65536);
    lengths_[id] = static_cast<uint16_t>(pieces.size());
    return id;
  }

  std::optional<Used> TakeSplit() {
    if (guest_.Get<uint16_t>(TestGuest::kUsed + 2) == next_used_) return std::nullopt;
    const uint64_t at = TestGuest::kUsed + 4 + 8 * (next_used_++ % size_);
    return Used{.id = guest_.Get<uint32_t>(at), .written = guest_.Get<uint32_t>(at + 4)};
  }

  std::optional<Used> TakePacked() {
    const uint64_t at = TestGuest::kDescriptors + 16 * next_used_;
    const auto flags = guest_.Get<uint16_t>(at + 14);
    if (((flags >> 7) & 1) != used_wrap_ || ((flags >> 15) & 1) != used_wrap_) return std::nullopt;
    const auto id = guest_.Get<uint16_t>(at + 12);
    next_used_ += lengths_[id];
    if (next_used_ >= size_) {
      next_used_ -= size_;
      used_wrap_ = !used_wrap_;
    }
    return Used{.id = id, .written = guest_.Get<uint32_t>(at + 8)};
  }

  TestGuest& guest_;
  uint16_t size_;
  bool is_packed_;
  uint16_t free_ = 0;
  uint16_t next_ = 0;
  bool wrap_ = true;
  uint16_t next_used_ = 0;
  bool used_wrap_ = true;
  // The lengths of a packed ring's chains, by id.
  std::vector<uint16_t> lengths_;
};

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_TESTING_RING_H_
