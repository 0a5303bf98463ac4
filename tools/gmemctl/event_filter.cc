// SPDX-License-Identifier: MIT OR Apache-2.0
#include "event_filter.h"

#include <utility>

#include "event_types.h"
#include "gmem/monitor.h"
#include "objects.h"

namespace gmemctl {
EventFilter::EventFilter(const Selection& selection, Objects objects, EventTypes types)
    : selection_(selection), types_(std::move(types)) {
  selection.Apply(&objects);
  for (const gmem::VmState& vm : objects.vms) vms_.insert(vm.id);
  for (const gmem::GuestMemoryState& memory : objects.memories) memories_.insert(memory.id);
}

bool EventFilter::IsOfSelected(const gmem::Event& event, gmem::Monitor& monitor) {
  switch (event.type) {
    case gmem::EventType::kVmCreated: {
      // It may be gone already; its event has the name, but not the process.
      gmem::VmState vm;
      vm.id = event.vm_id;
      vm.name = event.name;
      if (auto found = monitor.FindVm(event.vm_id); found.ok()) vm = *std::move(found);
      if (selection_.HasVm(vm)) vms_.insert(event.vm_id);
      break;
    }
    case gmem::EventType::kMemoryCreated:
      if (selection_.HasMemory(event.memory_id.value_or(0), event.name)) {
        memories_.insert(event.memory_id.value_or(0));
      }
      break;
    case gmem::EventType::kMap:
      if (vms_.count(event.vm_id) != 0) memories_.insert(event.memory_id.value_or(0));
      break;
    default:
      break;
  }
  if (event.vm_id != 0) return vms_.count(event.vm_id) != 0;
  return event.memory_id && memories_.count(*event.memory_id) != 0;
}

bool EventFilter::Selects(const gmem::Event& event, gmem::Monitor& monitor) {
  if (event.type == gmem::EventType::kGap || event.type == gmem::EventType::kOverrun) return true;
  const bool of_selected = selection_.is_all() || IsOfSelected(event, monitor);
  return of_selected && (types_.empty() || types_.count(event.type) != 0);
}

}  // namespace gmemctl
