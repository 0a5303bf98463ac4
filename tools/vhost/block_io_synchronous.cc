// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "block_io.h"

namespace {

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

class SynchronousIo final : public BlockIo {
 public:
  explicit SynchronousIo(int file) : file_(file) {}

  int fd() const override { return -1; }
  void Start(uint64_t id, const Operation& operation) override {
    ended_.push_back({.id = id, .result = CarryOut(file_, operation)});
  }
  void Submit() override {}
  std::optional<Completion> Next() override {
    if (ended_.empty()) return std::nullopt;
    return Wait();
  }
  bool Await() override { return ended_.empty(); }
  void TakeEvent() override {}
  Completion Wait() override {
    const Completion first = ended_.front();
    ended_.pop_front();
    return first;
  }

 private:
  const int file_;
  std::deque<Completion> ended_;
};

}  // namespace

std::unique_ptr<BlockIo> BlockIo::CreateSynchronous(int file) {
  return std::make_unique<SynchronousIo>(file);
}
