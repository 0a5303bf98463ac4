// SPDX-License-Identifier: Apache-2.0
// Memory, and what a migration needs: the dirty log, what is in flight, postcopy, and the
// device's state.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/events.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;

// Where the front-end's faults are: the base of the region in this process.
uint64_t BaseOf(GuestSpan memory) { return reinterpret_cast<uintptr_t>(memory.data()); }

// write() to a pipe whose reader may have gone, without the SIGPIPE: that is this thread's
// own, so hold it back, and take it out again unless it was there before.
ssize_t WriteToPipe(int fd, const char* from, size_t size) {
  sigset_t pipe, old, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  pthread_sigmask(SIG_BLOCK, &pipe, &old);
  const ssize_t written = write(fd, from, size);
  const int error = errno;
  if (written < 0 && error == EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec now = {};
    sigtimedwait(&pipe, nullptr, &now);
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  errno = error;
  return written;
}

}  // namespace

absl::Status Backend::SetMemoryTable(Message& message) {
  const auto table = FromBytes<MemoryTable>(message.bytes());
  if (is_table_unacknowledged_) {
    is_table_unacknowledged_ = false;
    if (table.nr_regions != 0) {
      return CheckError(EINVAL, "SET_MEM_TABLE where an acknowledgement of the last is due");
    }
    return RegisterPostcopy();
  }
  GMEM_RETURN_IF_ERROR(memory_.Replace({table.regions.data(), table.nr_regions}, message.fds));
  MoveRings();
  if (!is_postcopy_listening_) return responder_.Acknowledge(absl::OkStatus());
  MemoryTable reply = table;
  for (MemoryRegion& region : absl::MakeSpan(reply.regions.data(), reply.nr_regions)) {
    region.user_address = BaseOf(memory_.FromGuest(region.guest_address, region.size));
  }
  is_table_unacknowledged_ = true;
  return responder_.Reply(AsBytes(reply));
}

absl::Status Backend::AddMemoryRegion(Message& message) {
  if (message.header.size != sizeof(SingleMemoryRegion)) {
    return CheckError(EINVAL, "ADD_MEM_REG without a region, and no postcopy");
  }
  const MemoryRegion region = FromBytes<SingleMemoryRegion>(message.bytes()).region;
  GMEM_RETURN_IF_ERROR(memory_.Add(region, message.fds.get(0)));
  MoveRings();
  return absl::OkStatus();
}

absl::Status Backend::ReplyAddMemoryRegion(Message& message) {
  // The acknowledgement of all that were added.
  if (message.header.size != sizeof(SingleMemoryRegion)) return RegisterPostcopy();
  auto reply = FromBytes<SingleMemoryRegion>(message.bytes());
  GMEM_RETURN_IF_ERROR(AddMemoryRegion(message));
  reply.region.user_address =
      BaseOf(memory_.FromGuest(reply.region.guest_address, reply.region.size));
  return responder_.Reply(AsBytes(reply));
}

// The front-end knows the bases: from here on accesses may fault. What is registered stays
// so.
absl::Status Backend::RegisterPostcopy() {
  const uint64_t page = HostPageSize().value();
  for (size_t i = 0; i < memory_.size(); i++) {
    const GuestSpan memory = memory_.memory(i);
    uffdio_register request = {};
    request.range.start = BaseOf(memory) / page * page;
    request.range.len =
        (BaseOf(memory) + memory.size() + page - 1) / page * page - request.range.start;
    request.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(postcopy_.get(), UFFDIO_REGISTER, &request) != 0) {
      return ErrnoError(errno, "can't let the front-end serve a region's faults");
    }
  }
  return absl::OkStatus();
}

absl::Status Backend::AdvisePostcopy() {
  GMEM_RETURN_IF_ERROR(
      NeedFeature(ProtocolFeature::kPagefault, has_feature(ProtocolFeature::kPagefault)));
  postcopy_.reset(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!postcopy_) {
    // Only faults of user space: what the front-end writes for us it has itself.
    postcopy_.reset(
        static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  }
  uffdio_api api = {};
  api.api = UFFD_API;
  if (!postcopy_ || ioctl(postcopy_.get(), UFFDIO_API, &api) != 0) {
    postcopy_.reset();
    return responder_.Reply({});
  }
  return responder_.Reply({}, {postcopy_.get()});
}

absl::Status Backend::EndPostcopy() {
  postcopy_.reset();
  is_postcopy_listening_ = is_table_unacknowledged_ = false;
  const uint64_t done = 0;
  return responder_.Reply(AsBytes(done));
}

absl::Status Backend::SetLogBase(Message& message) {
  GMEM_RETURN_IF_ERROR(
      NeedFeature(ProtocolFeature::kLogShmfd, has_feature(ProtocolFeature::kLogShmfd)));
  GMEM_ASSIGN_OR_RETURN(DirtyMarks log,
                        DirtyMarks::Create(FromBytes<LogArea>(message.bytes()), message.fds.get(0),
                                           memory_.guest_end()));
  log_ = std::move(log);
  MoveRings();
  return responder_.Reply({});
}

absl::Status Backend::ReplyInflight(const InflightArea& request) {
  absl::StatusOr<InflightBuffer> buffer =
      InflightBuffer::Create(request.nr_queues, request.queue_size,
                             has_feature(VirtioFeature::kRingPacked), vrings_.size());
  // Size 0 says that there is none.
  InflightArea reply = {};
  if (!buffer.ok()) return responder_.Reply(AsBytes(reply));
  // It becomes ours when the front-end sends it back. Nothing stays here of what is
  // asked for again and again (CVE-2020-10726).
  reply = buffer->area();
  return responder_.Reply(AsBytes(reply), {buffer->fd()});
}

absl::Status Backend::SetInflight(const InflightArea& request, UniqueFd fd) {
  if (has_started()) {
    return CheckError(EBUSY, "SET_INFLIGHT_FD while virtqueues work: stop them first");
  }
  GMEM_ASSIGN_OR_RETURN(
      inflight_, InflightBuffer::Adopt(request, std::move(fd),
                                       has_feature(VirtioFeature::kRingPacked), vrings_.size()));
  return absl::OkStatus();
}

absl::Status Backend::SetStateFd(const DeviceStateTransfer& request, UniqueFd fd) {
  const auto refuse = [this](int error) {
    const uint64_t reply = kReplyNoFd | static_cast<uint64_t>(error);
    return responder_.Reply(AsBytes(reply));
  };
  if (!has_feature(ProtocolFeature::kDeviceState)) return refuse(EOPNOTSUPP & 0xff);
  if (has_started() || request.phase != TransferPhase::kStopped ||
      request.direction > TransferDirection::kLoad) {
    return refuse(EINVAL);
  }
  const bool is_save = request.direction == TransferDirection::kSave;
  StateTransfer transfer = {
      .fd = {}, .direction = request.direction, .bytes = {}, .done = 0, .status = absl::OkStatus()};
  if (is_save) {
    absl::StatusOr<std::string> state = device_.SaveState();
    if (!state.ok()) return refuse(EIO);
    transfer.bytes = *std::move(state);
  }
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return refuse(EBADF);
  if (transfer_) Unwatch(transfer_->fd.get());
  transfer_.reset();
  if (!Watch(fd.get(), kStateToken, is_save ? EPOLLOUT : EPOLLIN, /*is_new=*/true).ok()) {
    return refuse(EBADF);
  }
  transfer.fd = std::move(fd);
  transfer_.emplace(std::move(transfer));
  const uint64_t reply = kReplyNoFd;
  return responder_.Reply(AsBytes(reply));
}

void Backend::AdvanceState() {
  if (!transfer_ || !transfer_->fd) return;
  StateTransfer& transfer = *transfer_;
  const bool is_save = transfer.direction == TransferDirection::kSave;
  bool is_done = is_save && transfer.done == transfer.bytes.size();
  if (!is_done) {
    constexpr size_t kPiece = 65536;
    std::array<char, kPiece> piece;
    const ssize_t moved =
        is_save ? WriteToPipe(transfer.fd.get(), transfer.bytes.data() + transfer.done,
                              transfer.bytes.size() - transfer.done)
                : read(transfer.fd.get(), piece.data(), piece.size());
    if (moved < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      transfer.status = ErrnoError(errno, "the transfer of the device's state");
      is_done = true;
    } else if (is_save) {
      transfer.done += static_cast<size_t>(moved);
      is_done = transfer.done == transfer.bytes.size();
    } else if (moved == 0) {
      transfer.status = device_.LoadState(transfer.bytes);
      is_done = true;
    } else if (transfer.bytes.size() + static_cast<size_t>(moved) > kMaxStateSize) {
      transfer.status = CheckError(
          EFBIG, absl::StrCat("a device's state of more than ", kMaxStateSize, " bytes"));
      is_done = true;
    } else {
      transfer.bytes.append(piece.data(), static_cast<size_t>(moved));
    }
  }
  if (!is_done) return;
  Unwatch(transfer.fd.get());
  transfer.fd.reset();
  transfer.bytes.clear();
}

absl::Status Backend::AnswerState() {
  is_state_asked_ = false;
  const uint64_t reply = transfer_ && transfer_->status.ok() ? 0 : EIO;
  transfer_.reset();
  return responder_.Reply(AsBytes(reply));
}

}  // namespace gmem::vhost
