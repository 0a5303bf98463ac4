// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl faults: the accesses of guests that were refused last.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/program.h"
#include "base/text.h"
#include "commands.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "names.h"
#include "nlohmann/json.hpp"
#include "objects.h"
#include "output.h"

namespace gmemctl {
namespace {

using FaultsByVm = std::map<uint32_t, std::vector<gmem::Fault>>;

// The binding that has the page now; nullptr if none has. The list is in ascending order.
const gmem::Binding* BindingAt(const Objects& objects, uint32_t vm_id, gmem::GuestAddress page) {
  const auto after = std::upper_bound(
      objects.bindings.begin(), objects.bindings.end(), std::pair(vm_id, page),
      [](const std::pair<uint32_t, gmem::GuestAddress>& place, const gmem::VmBinding& item) {
        return place < std::pair(item.vm_id, item.binding.range.start);
      });
  if (after == objects.bindings.begin()) return nullptr;
  const gmem::VmBinding& item = *std::prev(after);
  return item.vm_id == vm_id && page < item.binding.range.end() ? &item.binding : nullptr;
}

gmem::ByteOffset OffsetOf(const gmem::Binding& binding, gmem::GuestAddress page) {
  return binding.offset + (page - binding.range.start);
}

Json FaultJson(const gmem::Fault& fault, const gmem::Binding* binding, const Names& names) {
  Json json = {{"seq", fault.sequence},
               {"guest_addr", fault.page.value()},
               {"access", PermissionText(fault.read, fault.write, fault.execute)},
               {"reason", std::string(gmem::ToString(fault.reason))},
               {"count", fault.count},
               {"tid", fault.thread}};
  if (binding != nullptr) {
    json["mem_id"] = binding->memory_id;
    json["mem_name"] = names.OfMemory(binding->memory_id);
    json["offset"] = OffsetOf(*binding, fault.page).value();
  }
  return json;
}

void PrintFault(const gmem::Fault& fault, const gmem::Binding* binding, const Names& names) {
  std::cout << absl::StreamFormat("  0x%012x %s %s", fault.page.value(),
                                  PermissionText(fault.read, fault.write, fault.execute),
                                  gmem::ToString(fault.reason));
  if (fault.count != 1) std::cout << ", " << tools::Counted(fault.count, "time");
  if (fault.thread != 0) std::cout << ", by thread " << fault.thread;
  if (binding != nullptr) {
    std::cout << ", guestmem " << binding->memory_id << NameText(names.OfMemory(binding->memory_id))
              << " offset " << ToString(OffsetOf(*binding, fault.page));
  }
  std::cout << "\n";
}

// The accesses that the module has forgotten, because others came after them.
uint64_t CountForgotten(const gmem::VmState& vm, const std::vector<gmem::Fault>& faults) {
  uint64_t remembered = 0;
  for (const gmem::Fault& fault : faults) remembered += fault.count;
  return vm.refused > remembered ? vm.refused - remembered : 0;
}

}  // namespace

absl::StatusOr<int> RunFaults(Arguments /*arguments*/) {
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const auto objects = AskForSelected(*monitor);
  if (!objects.ok()) return objects.status();
  const Names names(*objects);
  FaultsByVm by_vm;
  const auto faults = monitor->Faults();
  if (faults.ok()) {
    for (const gmem::VmFault& fault : *faults) by_vm[fault.vm_id].push_back(fault.fault);
  } else if (!absl::IsUnimplemented(faults.status())) {
    return faults.status();
  } else {
    tools::PrintError("gmemctl", absl::StrCat(faults.status().message(), "; only counts follow"));
  }
  Json vms = Json::array();
  for (const gmem::VmState& vm : objects->vms) {
    const std::vector<gmem::Fault>& rows = by_vm[vm.id];
    Json row_array = Json::array();
    if (!WantsJson()) {
      std::cout << absl::StreamFormat("vm %d%s: %s refused", vm.id, NameText(vm.name),
                                      tools::Counted(vm.refused, "access", "accesses"));
      const uint64_t forgotten = CountForgotten(vm, rows);
      if (forgotten != 0) std::cout << ", " << forgotten << " of them forgotten";
      std::cout << "\n";
    }
    for (const gmem::Fault& fault : rows) {
      const gmem::Binding* const binding = BindingAt(*objects, vm.id, fault.page);
      if (WantsJson()) {
        row_array.push_back(FaultJson(fault, binding, names));
      } else {
        PrintFault(fault, binding, names);
      }
    }
    vms.push_back({{"id", vm.id}, {"name", vm.name}, {"refused", vm.refused}, {"rows", row_array}});
  }
  if (WantsJson()) PrintJson({{"vms", vms}});
  return 0;
}

}  // namespace gmemctl
