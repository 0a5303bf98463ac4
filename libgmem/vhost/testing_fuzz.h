// SPDX-License-Identifier: Apache-2.0
// What the fuzzers of both ends share: input as a list of records, each of which a peer
// sends at once, with descriptors. Not installed.
#ifndef GMEM_VHOST_TESTING_FUZZ_H_
#define GMEM_VHOST_TESTING_FUZZ_H_

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
#include "vhost/testing_socket.h"

namespace gmem::vhost::testing {

// In the input, before each record's bytes.
struct RecordHeader {
  // Bits 0-3: descriptors that come with it. Bit 6: the bytes are a payload, and get the
  // header of the reply that is due. Bit 7: on the second channel.
  uint8_t control;
  uint8_t padding;
  uint16_t size;
};

struct Record {
  size_t nr_fds = 0;
  bool is_reply = false;
  bool is_second_channel = false;
  absl::Span<const uint8_t> bytes;
};

// Takes an input apart; whatever it is, it is a list of records.
class Records {
 public:
  explicit Records(absl::Span<const uint8_t> input) : rest_(input) {}

  std::optional<Record> Next() {
    RecordHeader header = {};
    if (rest_.size() <= sizeof(header)) return std::nullopt;
    std::memcpy(&header, rest_.data(), sizeof(header));
    rest_.remove_prefix(sizeof(header));
    Record record = {.nr_fds = header.control & 0xfU,
                     .is_reply = (header.control & 0x40) != 0,
                     .is_second_channel = (header.control & 0x80) != 0,
                     .bytes = rest_.first(std::min<size_t>(header.size, rest_.size()))};
    rest_.remove_prefix(record.bytes.size());
    return record;
  }

 private:
  absl::Span<const uint8_t> rest_;
};

// What a peer sends as descriptor: memory, 64 KiB of it.
inline int SharedMemory() {
  static const int fd = [] {
    constexpr off_t kSize = 0x10000;
    const int memory = memfd_create("fuzz", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, kSize) != 0) abort();
    return memory;
  }();
  return fd;
}

// False if the other end is gone, or doesn't read.
inline bool SendRecord(int socket, const Record& record) {
  if (record.bytes.empty()) return true;
  std::array<int, 16> fds;
  fds.fill(SharedMemory());
  return SendRaw(socket, record.bytes, absl::MakeConstSpan(fds).first(record.nr_fds),
                 MSG_DONTWAIT) > 0;
}

}  // namespace gmem::vhost::testing

#endif  // GMEM_VHOST_TESTING_FUZZ_H_
