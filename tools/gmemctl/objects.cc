// SPDX-License-Identifier: MIT OR Apache-2.0
#include "objects.h"

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "find.h"
#include "flags.h"
#include "gmem/monitor.h"

namespace gmemctl {
namespace {

// Stores an answer of the monitor.
template <typename T>
absl::Status Store(absl::StatusOr<std::vector<T>> answer, std::vector<T>* to) {
  if (!answer.ok()) return answer.status();
  *to = *std::move(answer);
  return absl::OkStatus();
}

absl::Status UnlessUnimplemented(absl::Status status) {
  return absl::IsUnimplemented(status) ? absl::OkStatus() : status;
}

}  // namespace

Selection Selection::FromFlags() {
  Selection selection;
  selection.vm_ = static_cast<uint32_t>(absl::GetFlag(FLAGS_vm).value_or(0));
  selection.pid_ = static_cast<pid_t>(absl::GetFlag(FLAGS_pid).value_or(0));
  selection.name_ = absl::GetFlag(FLAGS_name);
  return selection;
}

bool Selection::HasVm(const gmem::VmState& vm) const {
  return (vm_ == 0 || vm.id == vm_) && (name_.empty() || vm.name == name_) &&
         (pid_ == 0 || vm.pid == static_cast<uint32_t>(pid_) ||
          FindHeldBy(pid_).vms.count(vm.id) != 0);
}

bool Selection::HasMemory(uint64_t id, const std::string& name) const {
  return vm_ == 0 && (name_.empty() || name == name_) &&
         (pid_ == 0 || FindHeldBy(pid_).memories.count(id) != 0);
}

void Selection::Apply(Objects* objects) const {
  if (is_all()) return;
  HeldObjects held;
  if (pid_ != 0) held = FindHeldBy(pid_);
  const auto made = [&](uint32_t pid) { return pid == static_cast<uint32_t>(pid_); };

  std::set<uint32_t> with_window;
  for (const gmem::WindowState& window : objects->windows) {
    if (!name_.empty() && window.name == name_) with_window.insert(window.vm_id);
  }
  std::set<uint64_t> with_view;
  for (const gmem::ViewState& view : objects->views) {
    if (!name_.empty() && view.name == name_) with_view.insert(view.memory_id);
  }

  std::erase_if(objects->vms, [&](const gmem::VmState& vm) {
    return (vm_ != 0 && vm.id != vm_) ||
           (!name_.empty() && vm.name != name_ && with_window.count(vm.id) == 0) ||
           (pid_ != 0 && !made(vm.pid) && held.vms.count(vm.id) == 0);
  });
  std::set<uint32_t> vms;
  for (const gmem::VmState& vm : objects->vms) vms.insert(vm.id);
  std::erase_if(objects->bindings,
                [&](const gmem::VmBinding& binding) { return vms.count(binding.vm_id) == 0; });
  std::set<uint64_t> bound;
  for (const gmem::VmBinding& binding : objects->bindings) {
    bound.insert(binding.binding.memory_id);
  }
  std::erase_if(objects->memories, [&](const gmem::GuestMemoryState& memory) {
    if (bound.count(memory.id) != 0) return false;
    return vm_ != 0 ||
           (!name_.empty() && memory.name != name_ && with_view.count(memory.id) == 0) ||
           (pid_ != 0 && held.memories.count(memory.id) == 0);
  });
}

absl::StatusOr<Objects> AskForObjects(gmem::Monitor& monitor, uint32_t only_vm) {
  Objects objects;
  absl::Status status = Store(monitor.Vms(), &objects.vms);
  status.Update(
      Store(only_vm != 0 ? monitor.Bindings(only_vm) : monitor.Bindings(), &objects.bindings));
  status.Update(Store(monitor.GuestMemories(), &objects.memories));
  status.Update(UnlessUnimplemented(Store(monitor.Windows(), &objects.windows)));
  status.Update(UnlessUnimplemented(Store(monitor.Views(), &objects.views)));
  if (!status.ok()) return status;
  return objects;
}

absl::StatusOr<Objects> AskForSelected(gmem::Monitor& monitor) {
  const auto vm = static_cast<uint32_t>(absl::GetFlag(FLAGS_vm).value_or(0));
  if (vm != 0) {
    const auto found = monitor.FindVm(vm);
    if (!found.ok()) return found.status();
  }
  auto objects = AskForObjects(monitor, vm);
  if (objects.ok()) Selection::FromFlags().Apply(&*objects);
  return objects;
}

}  // namespace gmemctl
