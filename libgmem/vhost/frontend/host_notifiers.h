// SPDX-License-Identifier: MIT OR Apache-2.0
// The virtqueues' doorbells in this process. Not installed.
#ifndef GMEM_VHOST_FRONTEND_HOST_NOTIFIERS_H_
#define GMEM_VHOST_FRONTEND_HOST_NOTIFIERS_H_

#include <map>

#include "absl/status/status.h"
#include "gmem/mapping.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/protocol.h"
#include "vhost/frontend/session.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::frontend_internal {

// Maps the pages that a back-end offers, and shows them to the handler.
class HostNotifiers {
 public:
  HostNotifiers(Session& session, FrontendHandler& handler)
      : session_(session), handler_(handler) {}
  HostNotifiers(const HostNotifiers&) = delete;
  HostNotifiers& operator=(const HostNotifiers&) = delete;

  // Maps the page @area of @fd for the virtqueue @index, in the place of an older one. Runs the
  // handler, so the caller must hold a Busy.
  absl::Status Set(unsigned index, const UniqueFd& fd, const VringArea& area);
  // NotFound (ENOENT) if there is none.
  absl::Status Remove(unsigned index);
  void RemoveAll();

 private:
  Session& session_;
  FrontendHandler& handler_;
  std::map<unsigned, Mapping> pages_;
};

}  // namespace gmem::vhost::frontend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_FRONTEND_HOST_NOTIFIERS_H_
