// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl policy: what a host access to a lent page does.
#include <iostream>
#include <optional>
#include <string>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "choose.h"
#include "commands.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "names.h"
#include "nlohmann/json.hpp"
#include "objects.h"
#include "output.h"

namespace gmemctl {
namespace {

std::optional<gmem::ReclaimPolicy> PolicyCalled(absl::string_view name) {
  for (const auto policy :
       {gmem::ReclaimPolicy::kAllow, gmem::ReclaimPolicy::kScrub, gmem::ReclaimPolicy::kDeny}) {
    if (gmem::ToString(policy) == name) return policy;
  }
  return std::nullopt;
}

absl::StatusOr<int> SetPolicy(gmem::ReclaimPolicy policy) {
  const absl::StatusOr<gmem::Vm> vm = TakeChosenVm();
  if (!vm.ok()) return vm.status();
  const auto id = vm->Id();
  if (!id.ok()) return id.status();
  if (absl::Status status = vm->SetPolicy(policy); !status.ok()) return status;
  const std::string name(gmem::ToString(policy));
  if (WantsJson()) {
    PrintJson({{"id", *id}, {"policy", name}});
  } else {
    std::cout << absl::StreamFormat("vm %d: policy %s\n", *id, name);
  }
  return 0;
}

Json PolicyJson(const Objects& objects, const gmem::VmState& vm, const Names& names) {
  Json bindings = Json::array();
  for (const gmem::VmBinding& item : objects.bindings) {
    if (item.vm_id == vm.id && item.binding.policy) {
      bindings.push_back(ToJson(item.binding, names.OfMemory(item.binding.memory_id)));
    }
  }
  return {{"id", vm.id},
          {"name", vm.name},
          {"policy", std::string(gmem::ToString(vm.policy))},
          {"bindings", bindings}};
}

absl::StatusOr<int> ShowPolicies() {
  if (absl::GetFlag(FLAGS_fd)) {
    return absl::InvalidArgumentError("--fd goes with a new policy: allow, scrub or deny");
  }
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const auto objects = AskForSelected(*monitor);
  if (!objects.ok()) return objects.status();
  const Names names(*objects);
  if (WantsJson()) {
    Json vms = Json::array();
    for (const gmem::VmState& vm : objects->vms) vms.push_back(PolicyJson(*objects, vm, names));
    PrintJson({{"vms", vms}});
    return 0;
  }
  for (const gmem::VmState& vm : objects->vms) {
    std::cout << absl::StreamFormat("vm %d%s: policy %s\n", vm.id, NameText(vm.name),
                                    gmem::ToString(vm.policy));
    for (const gmem::VmBinding& item : objects->bindings) {
      if (item.vm_id == vm.id && item.binding.policy) {
        std::cout << BindingText(item.binding, names.OfMemory(item.binding.memory_id)) << "\n";
      }
    }
  }
  return 0;
}

}  // namespace

absl::StatusOr<int> RunPolicy(Arguments arguments) {
  if (arguments.empty()) return ShowPolicies();
  const auto policy = PolicyCalled(arguments[0]);
  if (!policy || arguments.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", arguments[arguments.size() > 1 ? 1 : 0],
        arguments.size() > 1 ? "\": policy takes one argument" : "\": use allow, scrub or deny"));
  }
  return SetPolicy(*policy);
}

}  // namespace gmemctl
