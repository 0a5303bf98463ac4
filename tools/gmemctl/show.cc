// SPDX-License-Identifier: Apache-2.0
// gmemctl info, list, stats: the present state.
#include <cstdint>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "commands.h"
#include "flags.h"
#include "gmem/device.h"
#include "gmem/monitor.h"
#include "metrics.h"
#include "nlohmann/json.hpp"
#include "output.h"

namespace gmemctl {
namespace {

// The combinations that a provider can enforce: "rwx r-x".
std::string AccessText(const gmem::ProviderInfo& provider) {
  std::string text;
  for (unsigned bits = 1; bits < 8; ++bits) {
    const bool read = (bits & 1) != 0;
    const bool write = (bits & 2) != 0;
    const bool execute = (bits & 4) != 0;
    if (!provider.CanEnforce(read, write, execute)) continue;
    absl::StrAppend(&text, text.empty() ? "" : " ", PermissionText(read, write, execute));
  }
  return text;
}

Json BindingsOf(const std::vector<gmem::VmBinding>& bindings, uint32_t vm_id) {
  Json result = Json::array();
  for (const gmem::VmBinding& binding : bindings) {
    if (binding.vm_id == vm_id) result.push_back(ToJson(binding.binding));
  }
  return result;
}

void PrintVm(const gmem::VmState& vm, const std::vector<gmem::VmBinding>& bindings) {
  std::cout << absl::StreamFormat("vm %d%s: %s, policy %s, %d bits, ", vm.id, NameText(vm.name),
                                  vm.provider, gmem::ToString(vm.policy), vm.guest_address_bits);
  if (vm.windows && *vm.windows != gmem::WindowKind::kNone) {
    std::cout << gmem::ToString(*vm.windows) << " window, ";
  }
  std::cout << absl::StreamFormat("by %s[%d]: %d bindings, %d pages lent, %d accesses refused",
                                  Printable(vm.command), vm.pid, vm.bindings, vm.lent_pages,
                                  vm.refused);
  for (const gmem::VmDetail& detail : vm.details) {
    if (detail.name == kLabel) {
      std::cout << absl::StreamFormat(", label 0x%x", detail.value);
    } else {
      std::cout << ", " << Printable(detail.name) << " " << detail.value;
    }
  }
  std::cout << "\n";
  for (const gmem::VmBinding& item : bindings) {
    const gmem::Binding& binding = item.binding;
    if (item.vm_id != vm.id) continue;
    std::cout << absl::StreamFormat("  0x%012x-0x%012x %-5s %s guestmem %d offset 0x%x\n",
                                    binding.range.start.value(), binding.range.end().value() - 1,
                                    ModeName(binding.mode),
                                    PermissionText(binding.read, binding.write, binding.execute),
                                    binding.memory_id, binding.offset.value());
  }
}

void PrintMemory(const gmem::GuestMemoryState& memory) {
  std::cout << absl::StreamFormat(
      "guestmem %d%s: %s in pages of %s: %d absent, %d host, %d lent, %d shared, %d leaked\n",
      memory.id, NameText(memory.name), ToString(memory.size), ToString(memory.page_size),
      memory.pages.absent, memory.pages.host, memory.pages.lent, memory.pages.shared,
      memory.pages.leaked);
}

}  // namespace

absl::StatusOr<int> RunInfo(Arguments /*arguments*/) {
  const auto device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  const auto info = device->Info();
  if (!info.ok()) return info.status();
  if (WantsJson()) {
    Json providers = Json::array();
    for (const gmem::ProviderInfo& provider : info->providers) {
      providers.push_back({{"name", provider.name},
                           {"guest_addr_bits", provider.max_guest_address_bits},
                           {"windows", provider.has_windows},
                           {"share_many", provider.can_share_many},
                           {"access", AccessText(provider)}});
    }
    PrintJson({{"abi_version", info->abi_version},
               {"page_size", info->page_size.value()},
               {"huge_page_size", info->huge_page_size.value()},
               {"providers", providers}});
    return 0;
  }
  std::cout << "ABI version " << info->abi_version << ", pages of " << info->page_size
            << ", huge pages: "
            << (info->huge_page_size.value() == 0 ? "none" : ToString(info->huge_page_size))
            << "\n";
  for (const gmem::ProviderInfo& provider : info->providers) {
    std::cout << absl::StreamFormat(
        "provider %s: %d bits of guest addresses, %s, shared pages in %s, access %s\n",
        provider.name, provider.max_guest_address_bits,
        provider.has_windows ? "windows" : "no windows",
        provider.can_share_many ? "many bindings" : "one binding", AccessText(provider));
  }
  return 0;
}

absl::StatusOr<int> RunList(Arguments /*arguments*/) {
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const uint32_t only = absl::GetFlag(FLAGS_vm);
  const std::string name = absl::GetFlag(FLAGS_name);
  std::vector<gmem::VmState> vms;
  if (only != 0) {
    const auto vm = monitor->FindVm(only);
    if (!vm.ok()) return vm.status();
    vms.push_back(*vm);
  } else {
    auto all = monitor->Vms();
    if (!all.ok()) return all.status();
    vms = *std::move(all);
  }
  if (!name.empty()) {
    std::erase_if(vms, [&](const gmem::VmState& vm) { return vm.name != name; });
  }
  const auto bindings = only != 0 ? monitor->Bindings(only) : monitor->Bindings();
  if (!bindings.ok()) return bindings.status();
  auto memories = monitor->GuestMemories();
  if (!memories.ok()) return memories.status();
  if (only != 0 || !name.empty()) {
    // Show the guestmems of the VMs that are shown, and those that have the name themselves.
    std::set<uint32_t> shown;
    for (const gmem::VmState& vm : vms) shown.insert(vm.id);
    std::set<uint64_t> bound;
    for (const gmem::VmBinding& binding : *bindings) {
      if (shown.count(binding.vm_id) != 0) bound.insert(binding.binding.memory_id);
    }
    std::erase_if(*memories, [&](const gmem::GuestMemoryState& memory) {
      return bound.count(memory.id) == 0 && (only != 0 || memory.name != name);
    });
  }

  if (!WantsJson()) {
    for (const gmem::VmState& vm : vms) PrintVm(vm, *bindings);
    for (const gmem::GuestMemoryState& memory : *memories) PrintMemory(memory);
    return 0;
  }
  Json json = {{"vms", Json::array()}, {"guestmems", Json::array()}};
  for (const gmem::VmState& vm : vms) {
    Json entry = ToJson(vm);
    entry["bindings"] = BindingsOf(*bindings, vm.id);
    json["vms"].push_back(entry);
  }
  for (const gmem::GuestMemoryState& memory : *memories) {
    json["guestmems"].push_back(ToJson(memory));
  }
  PrintJson(json);
  return 0;
}

absl::StatusOr<int> RunStats(Arguments /*arguments*/) {
  const std::string output = absl::GetFlag(FLAGS_output);
  const bool prometheus = absl::GetFlag(FLAGS_prometheus);
  const bool open_metrics = absl::GetFlag(FLAGS_openmetrics);
  if (prometheus + open_metrics + WantsJson() > 1) {
    return absl::InvalidArgumentError("--prometheus, --openmetrics and JSON: take one of them");
  }
  if (!prometheus && !open_metrics) {
    if (!output.empty()) {
      return absl::InvalidArgumentError(
          "--output goes with --prometheus or --openmetrics; else redirect");
    }
    // Without netlink: a caller who may use the device needs no capability.
    const auto device = gmem::Device::Open();
    if (!device.ok()) return device.status();
    const auto stats = device->Stats();
    if (!stats.ok()) return stats.status();
    const Json json = ToJson(*stats);
    if (WantsJson()) {
      PrintJson(json);
      return 0;
    }
    for (const auto& [name, value] : json.items()) {
      std::cout << absl::StreamFormat("%-12s %d\n", name, value.get<uint64_t>());
    }
    return 0;
  }
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const auto stats = monitor->Stats();
  if (!stats.ok()) return stats.status();
  const auto vms = monitor->Vms();
  if (!vms.ok()) return vms.status();
  const std::string text = MetricsText(
      prometheus ? MetricsFormat::kPrometheus : MetricsFormat::kOpenMetrics, *stats, *vms);
  if (output.empty()) {
    std::cout << text;
    return 0;
  }
  if (absl::Status status = WriteFileAtomically(output, text); !status.ok()) return status;
  return 0;
}

}  // namespace gmemctl
