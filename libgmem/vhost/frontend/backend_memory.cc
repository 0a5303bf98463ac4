// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/backend_memory.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/vhost/backend_view.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

// During postcopy the reply to a request for memory is the request with the back-end's addresses.
constexpr Format WithRegionsBack(Format format, uint16_t min_size) {
  format.has_reply = true;
  format.min_reply_size = min_size;
  format.max_reply_size = format.max_size;
  return format;
}

// The front-end's message that it is ready for the back-end's faults; nothing answers it.
constexpr Format kClientsKnown = {
    .name = "the end of the memory table", .min_size = 8, .max_size = 8};

// Takes the address at which the back-end has @region from its @answer.
absl::Status TakeClientAddress(const MemoryRegion& answer, SharedRegion& region) {
  if (answer.guest_address != region.wire.guest_address || answer.size != region.wire.size) {
    return CheckError(
        EIO, absl::StrCat("sent the region of ", ToString(ByteSize(region.wire.size)), " at ",
                          ToString(GuestAddress(region.wire.guest_address)),
                          ", the back-end answered with ", ToString(ByteSize(answer.size)), " at ",
                          ToString(GuestAddress(answer.guest_address))));
  }
  // A guest page must be a whole page of the back-end, too, or Faults couldn't translate it.
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

absl::Status CheckSealed(absl::Span<const GuestRegion> regions) {
  for (const GuestRegion& region : regions) {
    if (GuestMemory::IsGuestMemory(region.fd)) continue;
    const int seals = fcntl(region.fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0) continue;
    return CheckError(EPERM, absl::StrCat("the back-end could shorten the file of the region at ",
                                          ToString(region.guest_address), ", descriptor ",
                                          region.fd, ": take a memfd, sealed with F_SEAL_SHRINK"));
  }
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

absl::Status NoPostcopyError() {
  return CheckError(EOPNOTSUPP,
                    "postcopy needs userfaultfd, which can't register the views of guestmems that "
                    "the back-end gets: migrate by precopy");
}

absl::Status BackendMemory::Set(absl::Span<const GuestRegion> regions, bool keeps_parts) {
  const Session::Deadline deadline(session_);
  GMEM_RETURN_IF_ERROR(CheckRegions(regions, agreement_.slots_for_good()));
  if (options_.only_sealed_memory) GMEM_RETURN_IF_ERROR(CheckSealed(regions));
  GMEM_ASSIGN_OR_RETURN(std::vector<SharedRegion> shared, Share(regions));
  absl::Status result =
      session_.status().ok() ? Send(std::move(shared), keeps_parts) : session_.status();
  if (session_.status().ok()) return result;
  // The connection is over, so no back-end has any memory now. The next back-end must get exactly
  // this table: by then, the VMM may have lent memory that only the old table has.
  regions_.clear();
  is_for_next_ = true;
  GMEM_ASSIGN_OR_RETURN(regions_, Share(regions));
  return result;
}

bool BackendMemory::has_views() const {
  return std::any_of(regions_.begin(), regions_.end(),
                     [](const SharedRegion& region) { return region.view != nullptr; });
}

void BackendMemory::RevokeViews() {
  for (const std::weak_ptr<BackendView>& one : std::exchange(views_, {})) {
    if (const std::shared_ptr<BackendView> view = one.lock()) view->Revoke();
  }
  for (SharedRegion& region : regions_) region.view.reset();
}

// Lets a region of a guestmem have a view, unless it has one.
absl::Status BackendMemory::MakeView(SharedRegion& region) {
  if (region.view != nullptr || options_.whole_guest_memory ||
      !GuestMemory::IsGuestMemory(region.fd.get())) {
    return absl::OkStatus();
  }
  if (!may_have_views_) return NoPostcopyError();
  auto view = BackendView::Create(region.fd.get(),
                                  {ByteOffset(region.wire.mmap_offset), ByteSize(region.wire.size)},
                                  options_.view_name);
  if (view.ok()) {
    region.view = *std::move(view);
    std::erase_if(views_, [](const std::weak_ptr<BackendView>& one) { return one.expired(); });
    views_.push_back(region.view);
    return absl::OkStatus();
  }
  const std::string message =
      absl::StrCat("can't share ", ToString(GuestAddress(region.wire.guest_address)), ": ",
                   view.status().message());
  if (!absl::IsUnimplemented(view.status())) {
    return CheckError(GetErrno(view.status()).value_or(EIO), message);
  }
  return CheckError(GetErrno(view.status()).value_or(EOPNOTSUPP),
                    absl::StrCat(message,
                                 ". Frontend::Options::whole_guest_memory works, "
                                 "and lets the back-end reach all of the guestmem"));
}

absl::Status BackendMemory::MakeViews(std::vector<SharedRegion>& regions) {
  for (SharedRegion& region : regions) {
    // The back-end has the region already, so it has the view.
    const auto same = std::find_if(regions_.begin(), regions_.end(),
                                   [&](const SharedRegion& other) { return region.Is(other); });
    if (same != regions_.end()) region.view = same->view;
    GMEM_RETURN_IF_ERROR(MakeView(region));
  }
  return absl::OkStatus();
}

std::vector<SharedRegion> BackendMemory::Take() {
  is_for_next_ = false;
  return std::exchange(regions_, {});
}

void BackendMemory::Restore(std::vector<SharedRegion> regions) {
  if (!is_for_next_) regions_ = std::move(regions);
}

template <FrontendRequest kRequest>
absl::Status BackendMemory::Change(const typename RequestTraits<kRequest>::Payload& payload,
                                   absl::Span<const int> fds) {
  GMEM_RETURN_IF_ERROR(session_.Do<kRequest>(payload, fds, Session::Confirm::kAlways));
  return session_.status();
}

absl::Status BackendMemory::Send(std::vector<SharedRegion> regions, bool keeps_parts) {
  // The session refuses a table that a callback sends; the flag must then stay as it was.
  const bool before = std::exchange(is_unacknowledged_, is_postcopy_);
  absl::Status status = agreement_.Has(ProtocolFeature::kConfigureMemSlots)
                            ? SendDifference(std::move(regions), keeps_parts)
                            : SendTable(std::move(regions));
  is_unacknowledged_ = before;
  return status;
}

absl::Status BackendMemory::SendTable(std::vector<SharedRegion> regions) {
  const TableDifference difference = Compare(regions_, regions);
  if (difference.removals.empty() && difference.additions.empty()) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(MakeViews(regions));

  MemoryTable table = {};
  std::array<int, kMaxTableRegions> fds;
  for (const SharedRegion& region : regions) {
    fds[table.nr_regions] = region.sent_fd();
    table.regions[table.nr_regions++] = region.sent();
  }
  const auto fd_span = absl::MakeConstSpan(fds.data(), table.nr_regions);
  if (!is_postcopy_) {
    GMEM_RETURN_IF_ERROR(Change<FrontendRequest::kSetMemTable>(table, fd_span));
    regions_ = std::move(regions);
    return absl::OkStatus();
  }

  const Format format = WithRegionsBack(*FindFormat(FrontendRequest::kSetMemTable),
                                        static_cast<uint16_t>(WireSize(table)));
  MemoryTable answer = {};
  GMEM_RETURN_IF_ERROR(session_.Call(FrontendRequest::kSetMemTable, format, AsBytes(table), fd_span,
                                     Session::Confirm::kIfAcked,
                                     {.payload = AsWritableBytes(answer)}));
  // The back-end has the table, even if the addresses in its answer are wrong.
  regions_ = std::move(regions);
  if (answer.nr_regions != table.nr_regions) {
    return CheckError(EIO, absl::StrCat("sent ", table.nr_regions, " regions, the back-end ",
                                        "answered with ", answer.nr_regions));
  }
  for (size_t i = 0; i < regions_.size(); i++) {
    GMEM_RETURN_IF_ERROR(TakeClientAddress(answer.regions[i], regions_[i]));
  }
  return AcknowledgeClients(FrontendRequest::kSetMemTable);
}

absl::Status BackendMemory::SendDifference(std::vector<SharedRegion> regions, bool keeps_parts) {
  if (keeps_parts) {
    GMEM_ASSIGN_OR_RETURN(regions, KeepParts(regions_, std::move(regions), agreement_.max_slots()));
  }
  const TableDifference difference = Compare(regions_, regions);
  // A region that stays may be a part now, or no longer.
  for (SharedRegion& region : regions_) {
    const auto same = std::find_if(regions.begin(), regions.end(),
                                   [&](const SharedRegion& other) { return region.Is(other); });
    if (same != regions.end()) region.is_cut = same->is_cut;
  }
  // Before anything is sent: a view may be impossible.
  for (const size_t place : difference.additions) GMEM_RETURN_IF_ERROR(MakeView(regions[place]));
  for (const size_t place : difference.removals) {
    GMEM_RETURN_IF_ERROR(
        Change<FrontendRequest::kRemMemReg>({.padding = 0, .region = regions_[place].sent()}, {}));
    // The end of a region revokes its view: the back-end has unmapped it.
    regions_.erase(regions_.begin() + static_cast<ptrdiff_t>(place));
  }
  for (const size_t place : difference.additions) {
    GMEM_RETURN_IF_ERROR(Add(std::move(regions[place])));
  }
  if (!is_postcopy_ || difference.additions.empty()) return absl::OkStatus();
  return AcknowledgeClients(FrontendRequest::kAddMemReg);
}

absl::Status BackendMemory::Add(SharedRegion region) {
  const int fd = region.sent_fd();
  const SingleMemoryRegion single = {.padding = 0, .region = region.sent()};
  if (!is_postcopy_) {
    GMEM_RETURN_IF_ERROR(Change<FrontendRequest::kAddMemReg>(single, absl::MakeConstSpan(&fd, 1)));
    // Nothing sends it again, unlike the descriptors of a whole table.
    if (region.view != nullptr) region.view->CloseFd();
    regions_.push_back(std::move(region));
    return absl::OkStatus();
  }

  const Format format = WithRegionsBack(*FindFormat(FrontendRequest::kAddMemReg), sizeof(single));
  SingleMemoryRegion answer = {};
  GMEM_RETURN_IF_ERROR(session_.Call(FrontendRequest::kAddMemReg, format, AsBytes(single),
                                     absl::MakeConstSpan(&fd, 1), Session::Confirm::kIfAcked,
                                     {.payload = AsWritableBytes(answer)}));
  regions_.push_back(std::move(region));
  return TakeClientAddress(answer.region, regions_.back());
}

absl::Status BackendMemory::AcknowledgeClients(FrontendRequest request) {
  return session_.Call(request, kClientsKnown, AsBytes(uint64_t{0}), {}, Session::Confirm::kNo, {});
}

void BackendMemory::EndPostcopy() {
  may_have_views_ = true;
  is_postcopy_ = false;
  for (SharedRegion& region : regions_) region.client_address.reset();
}

absl::Status BackendMemory::Resume(absl::Span<const SharedRegion> regions) {
  std::vector<SharedRegion> copy;
  copy.reserve(regions.size());
  for (const SharedRegion& region : regions) {
    SharedRegion one = {.wire = region.wire,
                        .fd = {},
                        .device = region.device,
                        .inode = region.inode,
                        .view = {},
                        .client_address = {},
                        .is_cut = region.is_cut};
    GMEM_ASSIGN_OR_RETURN(one.fd, region.fd.Duplicate());
    copy.push_back(std::move(one));
  }
  // No virtqueue works yet, so the new back-end gets whole regions.
  return Send(JoinParts(std::move(copy)), /*keeps_parts=*/false);
}

}  // namespace gmem::vhost::frontend_internal
