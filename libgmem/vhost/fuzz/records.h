// SPDX-License-Identifier: MIT OR Apache-2.0
// Code that the fuzzers of both ends share: the input as a list of records. A peer sends each
// record at once, with descriptors. Not installed.
#ifndef GMEM_VHOST_FUZZ_RECORDS_H_
#define GMEM_VHOST_FUZZ_RECORDS_H_

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost::doubles {

// In the input, this precedes the bytes of each record.
struct RecordHeader {
  // - Bits 0-3: how many descriptors come with the record.
  // - Bit 4: a write to memory instead of a message. The bytes are an offset (two bytes) in the
  //   memory, and the new content there.
  // - Bit 5: the descriptors are eventfds, not memory.
  // - Bit 6: the bytes are a payload; the peer adds the header of the reply that the front-end
  //   expects.
  // - Bit 7: the record is for the second channel.
  uint8_t control;
  uint8_t padding;
  uint16_t size;
};

struct Record {
  size_t nr_fds = 0;
  bool is_memory = false;
  bool has_eventfds = false;
  bool is_reply = false;
  bool is_second_channel = false;
  absl::Span<const uint8_t> bytes;
};

// Splits an input into records. Every input is a valid list of records.
class Records {
 public:
  explicit Records(absl::Span<const uint8_t> input) : rest_(input) {}

  std::optional<Record> Next() {
    RecordHeader header = {};
    if (rest_.size() <= sizeof(header)) return std::nullopt;
    std::memcpy(&header, rest_.data(), sizeof(header));
    rest_.remove_prefix(sizeof(header));
    Record record = {.nr_fds = header.control & 0xfU,
                     .is_memory = (header.control & 0x10) != 0,
                     .has_eventfds = (header.control & 0x20) != 0,
                     .is_reply = (header.control & 0x40) != 0,
                     .is_second_channel = (header.control & 0x80) != 0,
                     .bytes = rest_.first(std::min<size_t>(header.size, rest_.size()))};
    rest_.remove_prefix(record.bytes.size());
    return record;
  }

 private:
  absl::Span<const uint8_t> rest_;
};

// The descriptors that a peer sends: 64 KiB of memory, or an eventfd.
inline constexpr off_t kSharedSize = 0x10000;
inline int SharedMemory() {
  static const int fd = [] {
    const int memory = memfd_create("fuzz", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, kSharedSize) != 0) abort();
    return memory;
  }();
  return fd;
}
inline int SharedEvent() {
  static const int fd = [] {
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0) abort();
    return event;
  }();
  return fd;
}

// Restores the state before the first input. The memory must not be mapped.
inline void ClearShared() {
  if (ftruncate(SharedMemory(), 0) != 0 || ftruncate(SharedMemory(), kSharedSize) != 0) abort();
  uint64_t value = 0;
  [[maybe_unused]] const ssize_t got = read(SharedEvent(), &value, sizeof(value));
}

// Writes as a driver does, and kicks.
inline void WriteShared(absl::Span<const uint8_t> bytes) {
  uint16_t offset = 0;
  if (bytes.size() < sizeof(offset)) return;
  std::memcpy(&offset, bytes.data(), sizeof(offset));
  bytes.remove_prefix(sizeof(offset));
  const auto size = std::min<size_t>(bytes.size(), kSharedSize - offset);
  if (pwrite(SharedMemory(), bytes.data(), size, offset) < 0) abort();
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(SharedEvent(), &one, sizeof(one));
}

// False if the other end is gone, or doesn't read.
inline bool SendRecord(int socket, const Record& record) {
  if (record.bytes.empty()) return true;
  if (record.is_memory) {
    WriteShared(record.bytes);
    return true;
  }
  std::array<int, 16> fds;
  fds.fill(record.has_eventfds ? SharedEvent() : SharedMemory());
  return SendRaw(socket, record.bytes, absl::MakeConstSpan(fds).first(record.nr_fds),
                 MSG_DONTWAIT) > 0;
}

}  // namespace gmem::vhost::doubles

#endif  // GMEM_VHOST_FUZZ_RECORDS_H_
