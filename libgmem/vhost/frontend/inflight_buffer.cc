// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/frontend/inflight_buffer.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/agreement.h"
#include "vhost/frontend/session.h"

namespace gmem::vhost::frontend_internal {
namespace {

using internal::CheckError;

absl::Status CheckInflight(const InflightArea& area, int fd) {
  const ByteOffset offset(area.mmap_offset);
  const ByteSize size(area.mmap_size);
  if (size == ByteSize(0) || !CheckedAdd(offset, size)) {
    return CheckError(EIO, absl::StrCat("no in-flight buffer can have ", ToString(size), " at ",
                                        ToString(offset)));
  }
  return internal::CheckFileReaches(fd, offset, size);
}

}  // namespace

absl::Status InflightBuffer::Start(uint16_t nr_queues, uint16_t queue_size) {
  const Session::Deadline deadline(session_);
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kInflightShmfd, "GET_INFLIGHT_FD"));
  InflightArea area = {};
  area.nr_queues = nr_queues;
  area.queue_size = queue_size;
  FdList fds;
  GMEM_ASSIGN_OR_RETURN(area, session_.Call<FrontendRequest::kGetInflightFd>(area, {}, &fds));
  if (fds.empty()) return CheckError(EIO, "the back-end made no in-flight buffer");
  // Some back-ends leave these two out of their reply.
  area.nr_queues = nr_queues;
  area.queue_size = queue_size;
  return Set(area, fds.get(0));
}

absl::Status InflightBuffer::Set(const InflightArea& area, int fd) {
  GMEM_RETURN_IF_ERROR(agreement_.Need(ProtocolFeature::kInflightShmfd, "SET_INFLIGHT_FD"));
  GMEM_RETURN_IF_ERROR(CheckInflight(area, fd));
  GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(fd));
  GMEM_RETURN_IF_ERROR(
      session_.Do<FrontendRequest::kSetInflightFd>(area, absl::MakeConstSpan(&fd, 1)));
  area_ = area;
  fd_ = std::move(copy);
  return absl::OkStatus();
}

absl::Status InflightBuffer::Resume() {
  if (!fd_.is_valid()) return absl::OkStatus();
  const int fd = fd_.get();
  return session_.Do<FrontendRequest::kSetInflightFd>(area_, absl::MakeConstSpan(&fd, 1));
}

}  // namespace gmem::vhost::frontend_internal
