// SPDX-License-Identifier: MIT OR Apache-2.0
#include "names.h"

#include <cstdint>
#include <string>

#include "gmem/monitor.h"
#include "objects.h"

namespace gmemctl {

Names::Names(const Objects& objects) {
  for (const auto& vm : objects.vms) vms_[vm.id] = vm.name;
  for (const auto& memory : objects.memories) memories_[memory.id] = memory.name;
  for (const auto& window : objects.windows) windows_[window.id] = window.name;
  for (const auto& view : objects.views) views_[view.id] = view.name;
}

const std::string& Names::Find(const ById& names, uint64_t id) {
  static const auto& none = *new std::string;
  const auto found = names.find(id);
  return found == names.end() ? none : found->second;
}

void Names::Add(const gmem::Event& event) {
  switch (event.type) {
    case gmem::EventType::kVmCreated:
      vms_[event.vm_id] = event.name;
      break;
    case gmem::EventType::kMemoryCreated:
      memories_[event.memory_id.value_or(0)] = event.name;
      break;
    case gmem::EventType::kWindowCreated:
      windows_[event.window_id] = event.name;
      break;
    case gmem::EventType::kViewCreated:
      views_[event.view_id] = event.name;
      break;
    default:
      break;
  }
}

void Names::Remove(const gmem::Event& event) {
  switch (event.type) {
    case gmem::EventType::kVmDestroyed:
      vms_.erase(event.vm_id);
      break;
    case gmem::EventType::kMemoryDestroyed:
      memories_.erase(event.memory_id.value_or(0));
      break;
    case gmem::EventType::kWindowDestroyed:
      windows_.erase(event.window_id);
      break;
    case gmem::EventType::kViewDestroyed:
      views_.erase(event.view_id);
      break;
    default:
      break;
  }
}

}  // namespace gmemctl
