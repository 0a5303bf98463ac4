// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl info, list, stats: the present state.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/program.h"
#include "base/text.h"
#include "commands.h"
#include "flags.h"
#include "gmem/device.h"
#include "gmem/monitor.h"
#include "metrics.h"
#include "names.h"
#include "nlohmann/json.hpp"
#include "objects.h"
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

// The features that the module has beyond the first ABI.
std::vector<std::string> Features(const gmem::DeviceInfo& info) {
  std::vector<std::string> features;
  if (info.has_names) features.emplace_back("names");
  if (info.has_live_windows) features.emplace_back("live windows");
  if (info.has_live_huge_pages) features.emplace_back("huge pages in live windows");
  if (info.has_window_descriptors) features.emplace_back("window descriptors");
  if (info.has_views) features.emplace_back("views");
  if (info.has_numa_policies) features.emplace_back("NUMA policies");
  if (info.has_waiting) features.emplace_back("waiting");
  if (info.has_change) features.emplace_back("change in place");
  if (info.has_map_options) features.emplace_back("policies of bindings");
  if (info.has_page_runs) features.emplace_back("page runs");
  if (info.has_memory_cgroups) features.emplace_back("memory cgroups");
  return features;
}

// The version of the loaded module; empty if it doesn't say one.
std::string ModuleVersion() {
  std::ifstream file("/sys/module/gmem/version");
  std::string version;
  std::getline(file, version);
  return version;
}

Json BindingsOf(const Objects& objects, const Names& names, uint32_t vm_id) {
  Json result = Json::array();
  for (const gmem::VmBinding& item : objects.bindings) {
    if (item.vm_id != vm_id) continue;
    result.push_back(ToJson(item.binding, names.OfMemory(item.binding.memory_id)));
  }
  return result;
}

void PrintVm(const gmem::VmState& vm, const Objects& objects, const Names& names) {
  std::cout << absl::StreamFormat("vm %d%s: %s, policy %s, %d bits, ", vm.id, NameText(vm.name),
                                  vm.provider, gmem::ToString(vm.policy), vm.guest_address_bits);
  if (vm.windows && *vm.windows != gmem::WindowKind::kNone) {
    std::cout << gmem::ToString(*vm.windows) << " window, ";
  }
  std::cout << absl::StreamFormat(
      "by %s[%d]: %s, %s lent, %s refused", tools::Printable(vm.command), vm.pid,
      tools::Counted(vm.bindings, "binding"), tools::Counted(vm.lent_pages, "page"),
      tools::Counted(vm.refused, "access", "accesses"));
  for (const gmem::VmDetail& detail : vm.details) {
    if (detail.name == kLabel) {
      std::cout << absl::StreamFormat(", label 0x%x", detail.value);
    } else {
      std::cout << ", " << tools::Printable(detail.name) << " " << detail.value;
    }
  }
  std::cout << "\n";
  for (const gmem::VmBinding& item : objects.bindings) {
    if (item.vm_id != vm.id) continue;
    std::cout << BindingText(item.binding, names.OfMemory(item.binding.memory_id)) << "\n";
  }
  for (const gmem::WindowState& window : objects.windows) {
    if (window.vm_id != vm.id) continue;
    std::cout << absl::StreamFormat("  window %d%s: 0x%012x-0x%012x, %s%s, by process %d\n",
                                    window.id, NameText(window.name), window.range.start.value(),
                                    window.range.end().value() - 1,
                                    window.read_only ? "read-only" : "read-write",
                                    window.allow_discard ? ", discard" : "", window.pid);
  }
}

void PrintMemory(const gmem::GuestMemoryState& memory, const Objects& objects) {
  std::cout << absl::StreamFormat(
      "guestmem %d%s: %s in pages of %s: %d absent, %d host, %d lent, %d shared, %d leaked\n",
      memory.id, NameText(memory.name), ToString(memory.size), ToString(memory.page_size),
      memory.pages.absent, memory.pages.host, memory.pages.lent, memory.pages.shared,
      memory.pages.leaked);
  for (const gmem::ViewState& view : objects.views) {
    if (view.memory_id != memory.id) continue;
    std::cout << absl::StreamFormat(
        "  view %d%s: offset 0x%x, %s, %s%s, by process %d\n", view.id, NameText(view.name),
        view.range.start.value(), ToString(view.range.size),
        view.read_only ? "read-only" : "read-write", view.revoked ? ", revoked" : "", view.pid);
  }
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
                           {"min_guest_addr", provider.min_guest_address.value()},
                           {"binds_first", provider.binds_first},
                           {"windows", provider.has_windows},
                           {"share_many", provider.can_share_many},
                           {"access", AccessText(provider)}});
    }
    PrintJson({{"version", tools::Version()},
               {"module_version", ModuleVersion()},
               {"abi_version", info->abi_version},
               {"page_size", info->page_size.value()},
               {"huge_page_size", info->huge_page_size.value()},
               {"max_bindings", info->max_bindings},
               {"max_user_bindings", info->max_user_bindings},
               {"user_bindings", info->user_bindings},
               {"features", Features(*info)},
               {"providers", providers}});
    return 0;
  }
  const std::string module = ModuleVersion();
  std::cout << "gmemctl " << tools::Version() << ", module "
            << (module.empty() ? "of unknown version" : tools::Printable(module)) << "\n"
            << "ABI version " << info->abi_version << ", pages of " << info->page_size
            << ", huge pages: "
            << (info->huge_page_size.value() == 0 ? "none" : ToString(info->huge_page_size))
            << "\n";
  const std::vector<std::string> features = Features(*info);
  std::cout << "features: " << (features.empty() ? "none" : absl::StrJoin(features, ", ")) << "\n";
  if (info->max_bindings != 0)
    std::cout << "bindings of a VM: at most " << info->max_bindings << "\n";
  if (info->max_user_bindings != 0) {
    std::cout << "bindings of this user's VMs: " << info->user_bindings << ", at most "
              << info->max_user_bindings << "\n";
  }
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
  const auto objects = AskForSelected(*monitor);
  if (!objects.ok()) return objects.status();
  const Names names(*objects);

  if (!WantsJson()) {
    for (const gmem::VmState& vm : objects->vms) PrintVm(vm, *objects, names);
    for (const gmem::GuestMemoryState& memory : objects->memories) PrintMemory(memory, *objects);
    return 0;
  }
  Json json = {{"vms", Json::array()}, {"guestmems", Json::array()}};
  for (const gmem::VmState& vm : objects->vms) {
    Json entry = ToJson(vm);
    entry["bindings"] = BindingsOf(*objects, names, vm.id);
    entry["windows"] = Json::array();
    for (const gmem::WindowState& window : objects->windows) {
      if (window.vm_id == vm.id) entry["windows"].push_back(ToJson(window));
    }
    json["vms"].push_back(entry);
  }
  for (const gmem::GuestMemoryState& memory : objects->memories) {
    Json entry = ToJson(memory);
    entry["views"] = Json::array();
    for (const gmem::ViewState& view : objects->views) {
      if (view.memory_id == memory.id) entry["views"].push_back(ToJson(view));
    }
    json["guestmems"].push_back(entry);
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
