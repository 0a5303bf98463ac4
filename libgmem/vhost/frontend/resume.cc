// SPDX-License-Identifier: Apache-2.0
// What outlives a back-end: buffers that both share, and how a new one goes on from them.
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;

absl::Status CheckInflight(const InflightArea& area, int fd) {
  const ByteOffset offset(area.mmap_offset);
  const ByteSize size(area.mmap_size);
  if (size == ByteSize(0) || !CheckedAdd(offset, size)) {
    return CheckError(EIO, absl::StrCat("an in-flight buffer of ", ToString(size), " at ",
                                        ToString(offset), " is none"));
  }
  return internal::CheckFileReaches(fd, offset, size);
}

}  // namespace

absl::Status Frontend::StartInflight(uint16_t nr_queues, uint16_t queue_size) {
  const Deadline deadline(*this);
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kInflightShmfd, "GET_INFLIGHT_FD"));
  InflightArea area = {};
  area.nr_queues = nr_queues;
  area.queue_size = queue_size;
  FdList fds;
  GMEM_ASSIGN_OR_RETURN(area,
                        Call<FrontendRequest::kGetInflightFd>(area, {}, Confirm::kIfAcked, &fds));
  if (fds.empty()) return CheckError(EIO, "the back-end made no in-flight buffer");
  // Some back-ends leave these out; they are ours to say.
  area.nr_queues = nr_queues;
  area.queue_size = queue_size;
  return SetInflight(area, fds.get(0));
}

absl::Status Frontend::SetInflight(const InflightArea& area, int fd) {
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kInflightShmfd, "SET_INFLIGHT_FD"));
  GMEM_RETURN_IF_ERROR(CheckInflight(area, fd));
  GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(fd));
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetInflightFd>(area, absl::MakeConstSpan(&fd, 1)));
  inflight_area_ = area;
  inflight_fd_ = std::move(copy);
  return absl::OkStatus();
}

absl::Status Frontend::StartLog(const DirtyLog& log) {
  const Deadline deadline(*this);
  GMEM_RETURN_IF_ERROR(Need(ProtocolFeature::kLogShmfd, "SET_LOG_BASE"));
  if ((features() & Bit(VirtioFeature::kLogAll)) == 0) {
    return CheckError(EOPNOTSUPP, "the back-end can't log: it doesn't offer VHOST_F_LOG_ALL");
  }
  GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(log.fd()));
  const int fd = copy.get();
  GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetLogBase>(log.area(), absl::MakeConstSpan(&fd, 1)));
  log_area_ = log.area();
  log_fd_ = std::move(copy);
  absl::Status status = SendLogging(true);
  // Unless it logs by now: then StopLog() ends that.
  if (!status.ok() && (acked_features_ & Bit(VirtioFeature::kLogAll)) == 0) log_fd_.reset();
  return status;
}

absl::Status Frontend::StopLog() {
  const Deadline deadline(*this);
  if (!log_fd_.is_valid()) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(SendLogging(false));
  log_fd_.reset();
  return absl::OkStatus();
}

absl::Status Frontend::SendLogging(bool enable) {
  const uint64_t bit = Bit(VirtioFeature::kLogAll);
  GMEM_RETURN_IF_ERROR(SendFeatures(enable ? acked_features_ | bit : acked_features_ & ~bit));
  for (const auto& [index, vring] : vrings_) {
    if (vring.address) GMEM_RETURN_IF_ERROR(SendVringAddr(*vring.address));
  }
  return absl::OkStatus();
}

absl::Status Frontend::Reconnect(Connection connection) {
  const Deadline deadline(*this);
  if (is_busy_) {
    return absl::FailedPreconditionError("Reconnect() was called from a callback");
  }
  Close();
  GMEM_RETURN_IF_ERROR(Attach(std::move(connection)));
  // Told anew, and remembered anew as it is.
  Remembered remembered = {.memory = std::exchange(memory_, {}),
                           .vrings = std::exchange(vrings_, {}),
                           .features = acked_features_,
                           .has_features = has_features_,
                           .is_driver_ok = is_driver_ok_};
  absl::Status status = Resume(remembered);
  if (status.ok()) return absl::OkStatus();

  memory_ = std::move(remembered.memory);
  vrings_ = std::move(remembered.vrings);
  acked_features_ = remembered.features;
  has_features_ = remembered.has_features;
  is_driver_ok_ = remembered.is_driver_ok;
  End(status);
  return status;
}

absl::Status Frontend::Resume(const Remembered& remembered) {
  GMEM_RETURN_IF_ERROR(NegotiateProtocol(agreed_));
  if (remembered.has_features) {
    const uint64_t missing = remembered.features & ~features();
    if (missing != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the back-end lacks the features 0x", absl::Hex(missing), ", which the one before had"));
    }
    GMEM_RETURN_IF_ERROR(SetFeatures(remembered.features));
  }

  std::vector<SharedRegion> copy;
  copy.reserve(remembered.memory.size());
  for (const SharedRegion& region : remembered.memory) {
    SharedRegion one = {.wire = region.wire,
                        .fd = {},
                        .device = region.device,
                        .inode = region.inode,
                        .client_address = {}};
    GMEM_ASSIGN_OR_RETURN(one.fd, region.fd.Duplicate());
    copy.push_back(std::move(one));
  }
  GMEM_RETURN_IF_ERROR(SetShared(std::move(copy)));

  if (inflight_fd_.is_valid()) {
    const int fd = inflight_fd_.get();
    GMEM_RETURN_IF_ERROR(
        Do<FrontendRequest::kSetInflightFd>(inflight_area_, absl::MakeConstSpan(&fd, 1)));
  }
  if (log_fd_.is_valid()) {
    const int fd = log_fd_.get();
    GMEM_RETURN_IF_ERROR(Do<FrontendRequest::kSetLogBase>(log_area_, absl::MakeConstSpan(&fd, 1)));
  }
  for (const auto& [index, vring] : remembered.vrings) {
    GMEM_RETURN_IF_ERROR(ResumeVring(index, vring));
  }
  return remembered.is_driver_ok ? DriverOk() : absl::OkStatus();
}

}  // namespace gmem::vhost
