// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_QUEUE_CALLS_H_
#define GMEM_VHOST_QUEUE_CALLS_H_

#include "absl/base/thread_annotations.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

/// The calls of a device for one virtqueue, as a capability that clang's -Wthread-safety knows. It
/// is no lock and does nothing: it says that such calls never overlap, see Device, and lets the
/// compiler find uses of a virtqueue's state in other calls.
///
///     struct PerQueue {
///       QueueCalls calls;
///       Chain chain ABSL_GUARDED_BY(calls);
///     };
///     absl::Status HandleQueue(Backend&, Virtqueue& queue) override {
///       PerQueue& mine = per_queue_[queue.index()];
///       mine.calls.AssertIn(queue);
///       while (queue.Pop(mine.chain) == Popped::kChain) queue.Push(mine.chain, Serve(mine.chain));
///       return queue.status();
///     }
class ABSL_LOCKABLE QueueCalls {
 public:
  /// This is a call for @p queue, whose state this object guards.
  void AssertIn(const Virtqueue& /*queue*/) const ABSL_ASSERT_EXCLUSIVE_LOCK() {}
  /// This call overlaps with no other call of the device: QueueStarted(), Reset() and so on.
  void AssertAlone() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_QUEUE_CALLS_H_
