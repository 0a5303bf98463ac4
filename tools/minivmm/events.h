// SPDX-License-Identifier: Apache-2.0
// What gmem did, as lines for the user: from the events that its netlink family sends.
#ifndef GMEM_TOOLS_MINIVMM_EVENTS_H_
#define GMEM_TOOLS_MINIVMM_EVENTS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gmem/monitor.h"

namespace minivmm {

// A line for each event, but events of one kind that follow each other share one: a
// guest that boots takes thousands of pages, one at a time.
std::vector<std::string> Describe(absl::Span<const gmem::Event> events);

// The events of this host's gmem, ours and others'.
//
// Thread-compatible.
class Events {
 public:
  // Errors are gmem::Monitor's: PermissionDenied for who isn't the host's operator.
  static absl::StatusOr<Events> Subscribe();

  // What has happened since the last call. Waits some milliseconds for what is under
  // way, so that an event stands before what it brought about.
  std::vector<std::string> Take();

 private:
  explicit Events(gmem::Monitor monitor) : monitor_(std::move(monitor)) {}

  gmem::Monitor monitor_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_EVENTS_H_
