// SPDX-License-Identifier: MIT OR Apache-2.0
// The translations that the front-end is asked for. Not installed.
#ifndef GMEM_VHOST_BACKEND_IOTLB_MISSES_H_
#define GMEM_VHOST_BACKEND_IOTLB_MISSES_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "gmem/vhost/protocol.h"
#include "vhost/backend/channel.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The page of an I/O virtual address that has no translation, and the accesses it is needed for.
// IOMMUs translate pages of at least 4 KiB.
struct IotlbMiss {
  static IotlbMiss Of(uint64_t iova, uint8_t permissions) {
    return {.page = iova / kPageSize, .permissions = permissions};
  }
  // Has @change something to do with the page?
  bool IsIn(const IotlbMessage& change) const {
    return page >= change.iova / kPageSize && page <= (change.iova + (change.size - 1)) / kPageSize;
  }
  // Are @permissions enough?
  bool IsAllowedBy(uint8_t given) const { return (permissions & ~given) == 0; }

  friend bool operator==(const IotlbMiss& a, const IotlbMiss& b) = default;

  static constexpr uint64_t kPageSize = 4096;
  uint64_t page = 0;
  uint8_t permissions = 0;
};

// Asks once for what is missing, however many virtqueues wait for it.
class IotlbMisses {
 public:
  enum class Failure : uint8_t {
    // The front-end has no translation.
    kRefused,
    // The request was not sent, or there will be no answer: ask again.
    kLost,
  };
  using OnFailure = absl::AnyInvocable<void(const IotlbMiss&, Failure)>;

  // @channel must outlive this object. @on_failure also runs from inside of Ask().
  IotlbMisses(BackendChannel& channel, OnFailure on_failure)
      : channel_(channel), on_failure_(std::move(on_failure)) {}
  IotlbMisses(const IotlbMisses&) = delete;
  IotlbMisses& operator=(const IotlbMisses&) = delete;

  // Asks for the translation of @iova, unless the answer for its page is due. The translation comes
  // as a request of the front-end. Without a channel there is nobody to ask.
  void Ask(uint64_t iova, uint8_t permissions);
  // The front-end has sent @update: what it has is no longer due.
  void Answer(const IotlbMessage& update);
  // Rely on none of the answers that are due: Ask() repeats the request. A front-end may
  // acknowledge a request and never send the translation, so a new start needs a new request.
  void AskAgain();

 private:
  struct Asked {
    IotlbMiss miss;
    uint64_t number = 0;
    bool is_relied_on = true;
  };
  // More can't be due: the channel takes fewer requests at a time. The front-end may acknowledge a
  // request and never answer it, so forget the oldest beyond this.
  static constexpr size_t kMaxAsked = 512;

  void HandleReply(uint64_t number, const absl::Status& reply);

  BackendChannel& channel_;
  OnFailure on_failure_;
  // The oldest first.
  std::vector<Asked> asked_;
  uint64_t next_number_ = 0;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_IOTLB_MISSES_H_
