// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_TOOLS_VHOST_WATCHES_H_
#define GMEM_TOOLS_VHOST_WATCHES_H_

#include <map>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"

// Descriptors of a device's own, a tap for example, for which the loop of Serve() waits.
class Watches {
 public:
  using Ready = absl::AnyInvocable<void()>;

  static absl::StatusOr<Watches> Create();

  // Calls @ready from inside of Process() as long as @fd is readable, until Unwatch(). Nothing
  // happens if @fd is watched already.
  absl::Status Watch(int fd, Ready ready);
  void Unwatch(int fd);

  // Readable when Process() has work to do.
  int fd() const { return epoll_.get(); }
  void Process();

 private:
  explicit Watches(gmem::UniqueFd epoll) : epoll_(std::move(epoll)) {}

  gmem::UniqueFd epoll_;
  // A callback may unwatch its own descriptor.
  std::map<int, std::shared_ptr<Ready>> ready_;
};

#endif  // GMEM_TOOLS_VHOST_WATCHES_H_
