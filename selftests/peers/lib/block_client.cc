// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lib/block_client.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/driver_ring.h"
#include "vhost/testing/driver_memory.h"

namespace gmem::vhost::peers {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(30);

}  // namespace

struct BlockClient::Header {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};

absl::StatusOr<BlockClient> BlockClient::Create(doubles::DriverMemory& memory, uint16_t queue_size,
                                                size_t depth, size_t max_size) {
  GMEM_ASSIGN_OR_RETURN(DriverRing ring, doubles::NewRing(memory, queue_size));
  BlockClient client(std::move(ring));
  client.owners_.resize(queue_size);
  for (size_t i = 0; i < depth; i++) {
    GMEM_ASSIGN_OR_RETURN(const auto header, memory.Allocate(sizeof(Header)));
    GMEM_ASSIGN_OR_RETURN(const auto data, memory.Allocate(max_size, 4096));
    GMEM_ASSIGN_OR_RETURN(const auto status, memory.Allocate(1));
    client.slots_.push_back({.header = reinterpret_cast<Header*>(header.data()),
                             .data = data,
                             .status = status.data()});
  }
  return client;
}

absl::Status BlockClient::Start(size_t slot, Type type, uint64_t sector, size_t size) {
  const Slot& s = slots_[slot];
  *s.header = {.type = static_cast<uint32_t>(type), .reserved = 0, .sector = sector};
  *s.status = static_cast<uint8_t>(Result::kNone);
  using Buffer = DriverRing::Buffer;
  const Buffer header = {{reinterpret_cast<uint8_t*>(s.header), sizeof(Header)}, false};
  const Buffer data = {s.data.first(size), type != Type::kWrite};
  const Buffer status = {{s.status, 1}, true};
  const std::array<Buffer, 3> with_data = {header, data, status};
  const std::array<Buffer, 2> without = {header, status};
  GMEM_ASSIGN_OR_RETURN(const uint16_t head, ring_.Add(size > 0 ? absl::MakeConstSpan(with_data)
                                                                : absl::MakeConstSpan(without)));
  owners_[head] = slot;
  return absl::OkStatus();
}

absl::StatusOr<std::pair<size_t, BlockClient::Result>> BlockClient::Complete() {
  GMEM_ASSIGN_OR_RETURN(const DriverRing::Used used, ring_.Wait(kTimeout));
  const size_t slot = owners_[used.head];
  return std::pair(slot, static_cast<Result>(*slots_[slot].status));
}

absl::StatusOr<BlockClient::Result> BlockClient::Do(Type type, uint64_t sector, size_t size) {
  GMEM_RETURN_IF_ERROR(Start(0, type, sector, size));
  ring_.Kick();
  GMEM_ASSIGN_OR_RETURN(const auto done, Complete());
  return done.second;
}

}  // namespace gmem::vhost::peers
