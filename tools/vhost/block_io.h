// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_IO_H_
#define GMEM_TOOLS_VHOST_BLOCK_IO_H_

#include <liburing.h>
#include <sys/uio.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

// Operations on one file that go on while the caller does something else: an io_uring. The kernel
// accepts no other operations of the ring, so it can't be used to get around a sandbox.
//
// Without a ring, each operation is carried out when it starts.
//
// Thread-compatible.
class BlockIo {
 public:
  enum class Kind : uint8_t { kRead, kWrite, kFlush, kAllocate };
  struct Operation {
    Kind kind = Kind::kRead;
    // kAllocate: as for fallocate(2).
    int mode = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    // kRead, kWrite: at most IOV_MAX; the caller keeps them until Submit() returns.
    absl::Span<const iovec> pieces = {};
  };
  struct Completion {
    uint64_t id = 0;
    // As the system call's; an error is negative.
    int result = 0;
  };

  // With a ring, for at most @nr_operations at a time. The kernel's error if it gives none.
  static absl::StatusOr<std::unique_ptr<BlockIo>> Create(int file, unsigned nr_operations);
  // Without a ring.
  static std::unique_ptr<BlockIo> CreateSynchronous(int file);
  BlockIo(const BlockIo&) = delete;
  BlockIo& operator=(const BlockIo&) = delete;
  ~BlockIo();

  // Readable when Next() may bring something. -1 without a ring.
  int fd() const { return event_.get(); }

  // Starts an operation at the next Submit(), or earlier.
  void Start(uint64_t id, const Operation& operation);
  void Submit();
  // An operation that has ended, if there is one.
  std::optional<Completion> Next();
  // Makes fd() tell of completions from here on, until the next Submit(). False if there is one
  // already. Call this before the caller waits.
  bool Await();
  // Call this when fd() is readable.
  void TakeEvent();
  // Waits until an operation has ended, of which there must be one.
  Completion Wait();

 private:
  explicit BlockIo(int file) : file_(file) {}

  int file_;
  bool has_ring_ = false;
  io_uring ring_ = {};
  gmem::UniqueFd event_;
  // Without a ring.
  std::deque<Completion> ended_;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_IO_H_
