// SPDX-License-Identifier: MIT OR Apache-2.0
#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
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
#include "block_io.h"
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

class RingIo final : public BlockIo {
 public:
  explicit RingIo(int file) : file_(file) {}
  ~RingIo() override {
    if (has_ring_) io_uring_queue_exit(&ring_);
  }
  // The other methods need this first.
  absl::Status Open(unsigned nr_operations);

  int fd() const override { return event_.get(); }
  void Start(uint64_t id, const Operation& operation) override;
  void Submit() override;
  std::optional<Completion> Next() override;
  bool Await() override;
  void TakeEvent() override;
  Completion Wait() override;

 private:
  const int file_;
  bool has_ring_ = false;
  io_uring ring_ = {};
  gmem::UniqueFd event_;
};

absl::Status RingIo::Open(unsigned nr_operations) {
  event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_) return absl::ErrnoToStatus(errno, "can't make an eventfd");
  int error = io_uring_queue_init(nr_operations, &ring_, IORING_SETUP_R_DISABLED);
  if (error != 0) return RingError(-error, "an io_uring");
  has_ring_ = true;
  std::array<io_uring_restriction, 4> allowed = {};
  constexpr std::array<uint8_t, 4> kOperations = {IORING_OP_READV, IORING_OP_WRITEV,
                                                  IORING_OP_FSYNC, IORING_OP_FALLOCATE};
  for (size_t i = 0; i < allowed.size(); i++) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = kOperations[i];
  }
  error = io_uring_register_eventfd(&ring_, event_.get());
  if (error == 0) {
    error = Register(ring_, IORING_REGISTER_RESTRICTIONS, allowed.data(), allowed.size());
  }
  if (error == 0) error = Register(ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (error != 0) return RingError(-error, "to restrict an io_uring");
  return absl::OkStatus();
}

void RingIo::Start(uint64_t id, const Operation& operation) {
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

void RingIo::Submit() {
  // The caller looks at completions itself until Await().
  io_uring_cq_eventfd_toggle(&ring_, false);
  while (io_uring_sq_ready(&ring_) > 0) {
    // The kernel is short of memory, or a signal came: there is no way but to try again.
    if (io_uring_submit(&ring_) < 0) usleep(1000);
  }
}

std::optional<BlockIo::Completion> RingIo::Next() {
  io_uring_cqe* entry = nullptr;
  if (io_uring_peek_cqe(&ring_, &entry) != 0 || entry == nullptr) return std::nullopt;
  const Completion completion = {.id = io_uring_cqe_get_data64(entry), .result = entry->res};
  io_uring_cqe_seen(&ring_, entry);
  return completion;
}

bool RingIo::Await() {
  io_uring_cq_eventfd_toggle(&ring_, true);
  // The kernel adds a completion, and looks at the flag then.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return io_uring_cq_ready(&ring_) == 0;
}

void RingIo::TakeEvent() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_.get(), &count, sizeof(count));
}

BlockIo::Completion RingIo::Wait() {
  while (true) {
    if (const std::optional<Completion> completion = Next()) return *completion;
    io_uring_cqe* entry = nullptr;
    io_uring_wait_cqe(&ring_, &entry);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockIo>> BlockIo::CreateRing(int file, unsigned nr_operations) {
  auto ring = std::make_unique<RingIo>(file);
  if (absl::Status status = ring->Open(nr_operations); !status.ok()) return status;
  return ring;
}
