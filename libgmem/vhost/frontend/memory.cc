// SPDX-License-Identifier: Apache-2.0
// The memory that the back-end is told of, and where it has it during postcopy.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/postcopy.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

// During postcopy these are answered by themselves, with the back-end's addresses.
constexpr Format WithRegionsBack(Format format, uint16_t min_size) {
  format.has_reply = true;
  format.min_reply_size = min_size;
  format.max_reply_size = format.max_size;
  return format;
}

// Our word that faults can come; nothing answers that.
constexpr Format kClientsKnown = {
    .name = "the end of the memory table", .min_size = 8, .max_size = 8};

// Where the back-end has @region, by its @answer.
absl::Status TakeClientAddress(const MemoryRegion& answer, SharedRegion& region) {
  if (answer.guest_address != region.wire.guest_address || answer.size != region.wire.size) {
    return CheckError(
        EIO, absl::StrCat("sent the region of ", ToString(ByteSize(region.wire.size)), " at ",
                          ToString(GuestAddress(region.wire.guest_address)),
                          ", the back-end answered with ", ToString(ByteSize(answer.size)), " at ",
                          ToString(GuestAddress(answer.guest_address))));
  }
  // The guest's pages are pages there, or faults couldn't be told in the guest's.
  const uint64_t shift = answer.user_address - region.wire.guest_address;
  if (!CheckedAdd(ByteOffset(answer.user_address), ByteSize(answer.size)) ||
      !IsAligned(ByteSize(shift), HostPageSize())) {
    return CheckError(
        EIO, absl::StrCat("the back-end has the region at ",
                          ToString(GuestAddress(region.wire.guest_address)), " at its 0x",
                          absl::Hex(answer.user_address), ": that wraps, or isn't page by page"));
  }
  region.client_address = answer.user_address;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<SharedRegion>> Share(absl::Span<const GuestRegion> regions) {
  std::vector<SharedRegion> shared;
  shared.reserve(regions.size());
  for (const GuestRegion& region : regions) {
    GMEM_ASSIGN_OR_RETURN(SharedRegion one, SharedRegion::Of(region));
    shared.push_back(std::move(one));
  }
  return shared;
}

}  // namespace

absl::Status Frontend::SetMemory(absl::Span<const GuestRegion> regions) {
  const Deadline deadline(*this);
  GMEM_RETURN_IF_ERROR(CheckRegions(regions, std::max(max_slots_, min_slots_)));
  GMEM_ASSIGN_OR_RETURN(std::vector<SharedRegion> shared, Share(regions));
  absl::Status result = status().ok() ? SetShared(std::move(shared)) : status();
  if (status().ok()) return result;
  // Nobody has any of it now. The next back-end is told of this, not of what was there: it
  // may be lent by then.
  memory_.clear();
  GMEM_ASSIGN_OR_RETURN(memory_, Share(regions));
  return result;
}

absl::Status Frontend::SetShared(std::vector<SharedRegion> regions) {
  is_table_unacknowledged_ = is_postcopy_;
  absl::Status status = Has(ProtocolFeature::kConfigureMemSlots)
                            ? SendDifference(std::move(regions))
                            : SendTable(std::move(regions));
  is_table_unacknowledged_ = false;
  return status;
}

absl::Status Frontend::SendTable(std::vector<SharedRegion> regions) {
  const TableDifference difference = Compare(memory_, regions);
  if (difference.removals.empty() && difference.additions.empty()) return absl::OkStatus();

  MemoryTable table = {};
  std::array<int, kMaxTableRegions> fds;
  for (const SharedRegion& region : regions) {
    fds[table.nr_regions] = region.fd.get();
    table.regions[table.nr_regions++] = region.wire;
  }
  const auto fd_span = absl::MakeConstSpan(fds.data(), table.nr_regions);
  if (!is_postcopy_) {
    GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetMemTable>(table, fd_span, Confirm::kAlways));
    memory_ = std::move(regions);
    return absl::OkStatus();
  }

  const Format format = WithRegionsBack(*FindFormat(FrontendRequest::kSetMemTable),
                                        static_cast<uint16_t>(WireSize(table)));
  MemoryTable answer = {};
  GMEM_RETURN_IF_ERROR(CallFormat(
      static_cast<uint32_t>(FrontendRequest::kSetMemTable), format, AsBytes(table), fd_span,
      Confirm::kIfAcked,
      [&answer](Message& message) { answer = FromBytes<MemoryTable>(message.bytes()); }));
  // The back-end has it, whatever it says of its addresses.
  memory_ = std::move(regions);
  if (answer.nr_regions != table.nr_regions) {
    return CheckError(EIO, absl::StrCat("sent ", table.nr_regions, " regions, the back-end ",
                                        "answered with ", answer.nr_regions));
  }
  for (size_t i = 0; i < memory_.size(); i++) {
    GMEM_RETURN_IF_ERROR(TakeClientAddress(answer.regions[i], memory_[i]));
  }
  return AcknowledgeClients(FrontendRequest::kSetMemTable);
}

absl::Status Frontend::SendDifference(std::vector<SharedRegion> regions) {
  GMEM_ASSIGN_OR_RETURN(regions, KeepParts(memory_, std::move(regions), max_slots_));
  const TableDifference difference = Compare(memory_, regions);
  for (const size_t place : difference.removals) {
    GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kRemMemReg>(
        {.padding = 0, .region = memory_[place].wire}, {}, Confirm::kAlways));
    memory_.erase(memory_.begin() + static_cast<ptrdiff_t>(place));
  }
  for (const size_t place : difference.additions) {
    GMEM_RETURN_IF_ERROR(AddRegion(std::move(regions[place])));
  }
  if (!is_postcopy_ || difference.additions.empty()) return absl::OkStatus();
  return AcknowledgeClients(FrontendRequest::kAddMemReg);
}

absl::Status Frontend::AddRegion(SharedRegion region) {
  const int fd = region.fd.get();
  const SingleMemoryRegion single = {.padding = 0, .region = region.wire};
  if (!is_postcopy_) {
    GMEM_RETURN_IF_ERROR(
        Do<FrontendRequest::kAddMemReg>(single, absl::MakeConstSpan(&fd, 1), Confirm::kAlways));
    memory_.push_back(std::move(region));
    return absl::OkStatus();
  }

  const Format format = WithRegionsBack(*FindFormat(FrontendRequest::kAddMemReg), sizeof(single));
  SingleMemoryRegion answer = {};
  GMEM_RETURN_IF_ERROR(CallFormat(
      static_cast<uint32_t>(FrontendRequest::kAddMemReg), format, AsBytes(single),
      absl::MakeConstSpan(&fd, 1), Confirm::kIfAcked,
      [&answer](Message& message) { answer = FromBytes<SingleMemoryRegion>(message.bytes()); }));
  memory_.push_back(std::move(region));
  return TakeClientAddress(answer.region, memory_.back());
}

absl::Status Frontend::AcknowledgeClients(FrontendRequest request) {
  return CallFormat(static_cast<uint32_t>(request), kClientsKnown, AsBytes(uint64_t{0}), {},
                    Confirm::kNo, [](Message& /*none*/) {});
}

absl::Status Frontend::PostcopyAdvise() {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kPagefault, "POSTCOPY_ADVISE"));
  FdList fds;
  GMEM_RETURN_IF_ERROR(
      Call<FrontendRequest::kPostcopyAdvise>({}, {}, Confirm::kIfAcked, &fds).status());
  GMEM_ASSIGN_OR_RETURN(Faults faults, Faults::Adopt(fds.Take(0)));
  faults_.emplace(std::move(faults));
  return absl::OkStatus();
}

absl::Status Frontend::PostcopyListen() {
  if (!faults_) return absl::FailedPreconditionError("POSTCOPY_LISTEN comes after ADVISE");
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kPostcopyListen>());
  is_postcopy_ = true;
  return absl::OkStatus();
}

absl::Status Frontend::PostcopyEnd() {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kPagefault, "POSTCOPY_END"));
  GMEM_ASSIGN_OR_RETURN(const uint64_t reply, Call<FrontendRequest::kPostcopyEnd>());
  is_postcopy_ = false;
  faults_.reset();
  for (SharedRegion& region : memory_) region.client_address.reset();
  if (reply == 0) return absl::OkStatus();
  return CheckError(EIO, absl::StrCat("the back-end can't end postcopy: 0x", absl::Hex(reply)));
}

}  // namespace gmem::vhost
