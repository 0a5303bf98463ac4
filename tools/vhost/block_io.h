// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_IO_H_
#define GMEM_TOOLS_VHOST_BLOCK_IO_H_

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

// Operations on one file that may go on while the caller does something else.
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

  // With an io_uring, for at most @nr_operations at a time. The kernel accepts no other operations
  // of the ring, so it can't be used to get around a sandbox. The kernel's error if it gives none.
  static absl::StatusOr<std::unique_ptr<BlockIo>> CreateRing(int file, unsigned nr_operations);
  // Carries out each operation when it starts.
  static std::unique_ptr<BlockIo> CreateSynchronous(int file);
  BlockIo() = default;
  BlockIo(const BlockIo&) = delete;
  BlockIo& operator=(const BlockIo&) = delete;
  virtual ~BlockIo() = default;

  // Readable when Next() may bring something. -1 if the caller never has to wait.
  virtual int fd() const = 0;

  // Starts an operation at the next Submit(), or earlier.
  virtual void Start(uint64_t id, const Operation& operation) = 0;
  virtual void Submit() = 0;
  // An operation that has ended, if there is one.
  virtual std::optional<Completion> Next() = 0;
  // Makes fd() tell of completions from here on, until the next Submit(). False if there is one
  // already. Call this before the caller waits.
  virtual bool Await() = 0;
  // Call this when fd() is readable.
  virtual void TakeEvent() = 0;
  // Waits until an operation has ended, of which there must be one.
  virtual Completion Wait() = 0;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_IO_H_
