// SPDX-License-Identifier: MIT OR Apache-2.0
// Waits for the descriptors of one session. Not installed.
#ifndef GMEM_VHOST_BACKEND_POLLER_H_
#define GMEM_VHOST_BACKEND_POLLER_H_

#include <sys/epoll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// An epoll instance that says which descriptor belongs to what, and an eventfd that wakes it.
//
// A descriptor must be removed before it is closed: the front-end has the same open file, so that
// closing the descriptor here doesn't take it out of the epoll instance.
class Poller {
 public:
  enum class Source : uint8_t { kFrontend, kChannel, kKick, kWatched, kWake };
  struct Event {
    Source source = Source::kWake;
    // The virtqueue's index, of a kKick; what Lane says, of a kWatched.
    uint32_t index = 0;
    // The peer has closed its end.
    bool is_hangup = false;
  };

  static absl::StatusOr<Poller> Create();

  // For epoll: readable when Poll() has something to report.
  int fd() const { return epoll_.get(); }

  // @events: EPOLLIN, EPOLLOUT, EPOLLET.
  absl::Status Add(int fd, uint32_t events, Source source, uint32_t index = 0);
  absl::Status Change(int fd, uint32_t events, Source source);
  // Ignores -1.
  void Remove(int fd);

  // Makes fd() readable until the next Poll(), for work that no descriptor announces. Any thread
  // may call this.
  void Wake();
  // A descriptor for other threads: a write of eight bytes does the same as Wake().
  absl::StatusOr<UniqueFd> DuplicateWake() const { return UniqueFd::Duplicate(wake_.get()); }

  // The descriptors that are ready now. Valid until the next call. Waits for the first one, for
  // @timeout at most.
  absl::StatusOr<absl::Span<const Event>> Poll(absl::Duration timeout = absl::ZeroDuration());

 private:
  // The owner's loop has other sessions to look after.
  static constexpr size_t kMaxEvents = 32;

  Poller(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  absl::Status Control(int operation, int fd, uint32_t events, Source source, uint32_t index);

  UniqueFd epoll_;
  UniqueFd wake_;
  std::array<Event, kMaxEvents> events_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_POLLER_H_
