// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_BLOCK_QUEUE_H_
#define GMEM_TOOLS_VHOST_BLOCK_QUEUE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "block_io.h"
#include "block_request.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/virtqueue.h"

// The requests of a virtqueue that are under way.
//
// Thread-compatible.
class BlockQueue {
 public:
  // Requests under way at most: the operations that @io has room for.
  static constexpr size_t kMaxRequests = 128;

  explicit BlockQueue(std::unique_ptr<BlockIo> io);

  // Readable when Complete() has work to do; -1 if it never has.
  int fd() const { return io_->fd(); }

  // Takes requests from @queue, begins them, and completes those that have ended. An error, before
  // anything has begun, if the driver has broken a rule.
  absl::Status Serve(gmem::vhost::Virtqueue& queue, const BlockDisk& disk);
  // Completes the requests that have ended.
  void Complete(gmem::vhost::Virtqueue& queue);
  // May Serve() have left requests in the virtqueue, for which there is room now?
  bool wants_more() const { return has_left_some_ && !free_.empty(); }
  // Waits for the operations under way, and forgets all requests: their chains have gone.
  void Abandon();

 private:
  // Takes requests from @queue and begins them. Returns their number.
  absl::StatusOr<int> Begin(gmem::vhost::Virtqueue& queue, const BlockDisk& disk);
  // Completes requests until all others wait for the disk.
  void CompleteAll(gmem::vhost::Virtqueue& queue);
  // Begins the request's next operation. False if it has none: the request has ended.
  bool Continue(size_t slot);
  // Gives the ended requests back to the driver, all at once.
  void PushEnded(gmem::vhost::Virtqueue& queue);

  const std::unique_ptr<BlockIo> io_;
  std::array<BlockRequest, kMaxRequests> requests_;
  // Places in requests_.
  std::vector<size_t> free_;
  std::vector<size_t> ended_;
  std::vector<gmem::vhost::Chain> chains_;
  size_t nr_operations_ = 0;
  bool has_left_some_ = false;
};

#endif  // GMEM_TOOLS_VHOST_BLOCK_QUEUE_H_
