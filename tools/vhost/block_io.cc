// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_io.h"

#include <fcntl.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

namespace {

absl::Status RingError(int error, absl::string_view step) {
  // Linux before 5.10 has no rings with restrictions (EINVAL).
  return absl::ErrnoToStatus(
      error, absl::StrCat("the kernel refuses ", step,
                          " (see the sysctl kernel.io_uring_disabled, and the container's seccomp "
                          "profile)"));
}

// Returns 0 or a negative errno. The shared library of liburing 2.3 lacks the functions that the
// header declares for some operations.
int Register(const io_uring& ring, unsigned operation, const void* argument, unsigned count) {
  return syscall(SYS_io_uring_register, ring.ring_fd, operation, argument, count) < 0 ? -errno : 0;
}

int CarryOut(int file, const BlockIo::Operation& operation) {
  const auto at = static_cast<off_t>(operation.offset);
  const auto count = static_cast<int>(operation.pieces.size());
  ssize_t result = 0;
  switch (operation.kind) {
    case BlockIo::Kind::kRead:
      result = preadv(file, operation.pieces.data(), count, at);
      break;
    case BlockIo::Kind::kWrite:
      result = pwritev(file, operation.pieces.data(), count, at);
      break;
    case BlockIo::Kind::kFlush:
      result = fdatasync(file);
      break;
    case BlockIo::Kind::kAllocate:
      result = fallocate(file, operation.mode, at, static_cast<off_t>(operation.size));
      break;
  }
  return result < 0 ? -errno : static_cast<int>(result);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockIo>> BlockIo::Create(int file, unsigned nr_operations) {
  std::unique_ptr<BlockIo> io(new BlockIo(file));
  io->event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!io->event_) return absl::ErrnoToStatus(errno, "can't make an eventfd");
  int error = io_uring_queue_init(nr_operations, &io->ring_, IORING_SETUP_R_DISABLED);
  if (error != 0) return RingError(-error, "an io_uring");
  io->has_ring_ = true;
  std::array<io_uring_restriction, 4> allowed = {};
  constexpr std::array<uint8_t, 4> kOperations = {IORING_OP_READV, IORING_OP_WRITEV,
                                                  IORING_OP_FSYNC, IORING_OP_FALLOCATE};
  for (size_t i = 0; i < allowed.size(); i++) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = kOperations[i];
  }
  error = io_uring_register_eventfd(&io->ring_, io->event_.get());
  if (error == 0) {
    error = Register(io->ring_, IORING_REGISTER_RESTRICTIONS, allowed.data(), allowed.size());
  }
  if (error == 0) error = Register(io->ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (error != 0) return RingError(-error, "to restrict an io_uring");
  return io;
}

std::unique_ptr<BlockIo> BlockIo::CreateSynchronous(int file) {
  return std::unique_ptr<BlockIo>(new BlockIo(file));
}

BlockIo::~BlockIo() {
  if (has_ring_) io_uring_queue_exit(&ring_);
}

void BlockIo::Start(uint64_t id, const Operation& operation) {
  if (!has_ring_) {
    ended_.push_back({.id = id, .result = CarryOut(file_, operation)});
    return;
  }
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    io_uring_submit(&ring_);
    entry = io_uring_get_sqe(&ring_);
  }
  const auto count = static_cast<unsigned>(operation.pieces.size());
  switch (operation.kind) {
    case Kind::kRead:
      io_uring_prep_readv(entry, file_, operation.pieces.data(), count, operation.offset);
      break;
    case Kind::kWrite:
      io_uring_prep_writev(entry, file_, operation.pieces.data(), count, operation.offset);
      break;
    case Kind::kFlush:
      io_uring_prep_fsync(entry, file_, IORING_FSYNC_DATASYNC);
      break;
    case Kind::kAllocate:
      io_uring_prep_fallocate(entry, file_, operation.mode, static_cast<off_t>(operation.offset),
                              static_cast<off_t>(operation.size));
      break;
  }
  io_uring_sqe_set_data64(entry, id);
}

void BlockIo::Submit() {
  if (!has_ring_) return;
  // The caller looks at completions itself until Await().
  io_uring_cq_eventfd_toggle(&ring_, false);
  while (io_uring_sq_ready(&ring_) > 0) {
    // The kernel is short of memory, or a signal came: there is no way but to try again.
    if (io_uring_submit(&ring_) < 0) usleep(1000);
  }
}

std::optional<BlockIo::Completion> BlockIo::Next() {
  if (!has_ring_) {
    if (ended_.empty()) return std::nullopt;
    const Completion first = ended_.front();
    ended_.pop_front();
    return first;
  }
  io_uring_cqe* entry = nullptr;
  if (io_uring_peek_cqe(&ring_, &entry) != 0 || entry == nullptr) return std::nullopt;
  const Completion completion = {.id = io_uring_cqe_get_data64(entry), .result = entry->res};
  io_uring_cqe_seen(&ring_, entry);
  return completion;
}

bool BlockIo::Await() {
  if (!has_ring_) return ended_.empty();
  io_uring_cq_eventfd_toggle(&ring_, true);
  // The kernel adds a completion, and looks at the flag then.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return io_uring_cq_ready(&ring_) == 0;
}

void BlockIo::TakeEvent() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_.get(), &count, sizeof(count));
}

BlockIo::Completion BlockIo::Wait() {
  while (true) {
    if (const std::optional<Completion> completion = Next()) return *completion;
    io_uring_cqe* entry = nullptr;
    io_uring_wait_cqe(&ring_, &entry);
  }
}
