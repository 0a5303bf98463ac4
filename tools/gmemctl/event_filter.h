// SPDX-License-Identifier: MIT OR Apache-2.0
// Which events the flags --vm, --pid, --name and --event select.
#ifndef GMEMCTL_EVENT_FILTER_H_
#define GMEMCTL_EVENT_FILTER_H_

#include <cstdint>
#include <set>

#include "event_types.h"
#include "gmem/monitor.h"
#include "objects.h"

namespace gmemctl {

// Follows the objects that are selected while the events come. An event is selected if its VM is,
// or, without a VM, its guestmem. Missing events are always reported.
class EventFilter {
 public:
  // @objects: all that exist when the first event comes; the events that made some of them may
  // still come.
  EventFilter(const Selection& selection, Objects objects, EventTypes types);

  // Call this for each event, in order. @monitor answers questions about new VMs.
  bool Selects(const gmem::Event& event, gmem::Monitor& monitor);

 private:
  bool IsOfSelected(const gmem::Event& event, gmem::Monitor& monitor);

  Selection selection_;
  std::set<uint32_t> vms_;
  std::set<uint64_t> memories_;
  EventTypes types_;
};

}  // namespace gmemctl

#endif  // GMEMCTL_EVENT_FILTER_H_
