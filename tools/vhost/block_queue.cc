// SPDX-License-Identifier: MIT OR Apache-2.0
#include "block_queue.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "block_io.h"
#include "block_request.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/virtqueue.h"

namespace {

using gmem::vhost::Chain;
using gmem::vhost::Popped;
using gmem::vhost::Virtqueue;

// Requests of one call: the session must have its turn, too.
constexpr int kBatch = 64;

}  // namespace

BlockQueue::BlockQueue(std::unique_ptr<BlockIo> io) : io_(std::move(io)) {
  chains_.resize(kMaxRequests);
  free_.reserve(kMaxRequests);
  ended_.reserve(kMaxRequests);
  for (size_t slot = kMaxRequests; slot > 0; slot--) free_.push_back(slot - 1);
}

absl::Status BlockQueue::Serve(Virtqueue& queue, const BlockDisk& disk) {
  int nr_begun = 0;
  // Without a free slot, none may have begun. If all have ended since, no event comes for the rest.
  do {
    const absl::StatusOr<int> begun = Begin(queue, disk);
    if (!begun.ok()) return begun.status();
    nr_begun = *begun;
    CompleteAll(queue);
  } while (nr_begun == 0 && wants_more());
  return queue.status();
}

absl::StatusOr<int> BlockQueue::Begin(Virtqueue& queue, const BlockDisk& disk) {
  uint64_t nr_bytes = 0;
  int nr_begun = 0;
  has_left_some_ = true;
  while (nr_begun < kBatch && nr_bytes < BlockDisk::kMaxTransfer && !free_.empty()) {
    const size_t slot = free_.back();
    BlockRequest& request = requests_[slot];
    const Chain& chain = request.chain();
    has_left_some_ = queue.Pop(request.chain()) == Popped::kChain;
    if (!has_left_some_) break;
    // Without a place for the status there is nobody to tell.
    if (chain.writable_size() == 0) {
      const bool is_back = queue.Unpop(chain);
      if (!is_back) queue.Push(chain, 0);
      // An error would give up the requests that have begun. The next call finds this one first.
      if (nr_begun > 0 || !is_back) break;
      return absl::DataLossError("a request without a byte for its status");
    }
    nr_begun++;
    nr_bytes += chain.readable_size() + chain.writable_size();
    free_.pop_back();
    request.Begin(disk);
    if (!Continue(slot)) ended_.push_back(slot);
  }
  return nr_begun;
}

void BlockQueue::Complete(Virtqueue& queue) {
  io_->TakeEvent();
  CompleteAll(queue);
}

void BlockQueue::CompleteAll(Virtqueue& queue) {
  do {
    io_->Submit();
    while (const std::optional<BlockIo::Completion> completion = io_->Next()) {
      nr_operations_--;
      requests_[completion->id].Finish(completion->result);
      if (Continue(completion->id)) {
        io_->Submit();
      } else {
        ended_.push_back(completion->id);
      }
    }
    PushEnded(queue);
  } while (!io_->Await());
}

bool BlockQueue::Continue(size_t slot) {
  BlockRequest& request = requests_[slot];
  if (!request.has_operation()) return false;
  io_->Start(slot, request.operation());
  nr_operations_++;
  return true;
}

void BlockQueue::PushEnded(Virtqueue& queue) {
  if (ended_.empty()) return;
  uint64_t nr_written = 0;
  for (size_t i = 0; i < ended_.size(); i++) {
    BlockRequest& request = requests_[ended_[i]];
    const Chain& chain = request.chain();
    const uint8_t status = request.status();
    chain.Write(chain.writable_size() - 1, &status, 1);
    // Report all bytes as written: the status is the last byte, and the dirty log must have it.
    nr_written += chain.writable_size();
    std::swap(chains_[i], request.chain());
  }
  queue.PushAll(absl::MakeConstSpan(chains_).first(ended_.size()), nr_written);
  for (size_t i = 0; i < ended_.size(); i++) {
    std::swap(chains_[i], requests_[ended_[i]].chain());
    free_.push_back(ended_[i]);
  }
  ended_.clear();
  queue.Notify();
}

void BlockQueue::Abandon() {
  for (; nr_operations_ > 0; nr_operations_--) io_->Wait();
  ended_.clear();
  free_.clear();
  for (size_t slot = kMaxRequests; slot > 0; slot--) free_.push_back(slot - 1);
}
