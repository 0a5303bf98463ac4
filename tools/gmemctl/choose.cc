// SPDX-License-Identifier: MIT OR Apache-2.0
#include "choose.h"

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "find.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "objects.h"
#include "output.h"

namespace gmemctl {

absl::StatusOr<uint32_t> ChooseVm(gmem::Monitor& monitor) {
  const VmId id = absl::GetFlag(FLAGS_vm);
  const ProcessId pid = absl::GetFlag(FLAGS_pid);
  const std::string name = absl::GetFlag(FLAGS_name);
  if (id && !pid && name.empty()) return static_cast<uint32_t>(*id);
  const auto vms = monitor.Vms();
  if (!vms.ok()) return vms.status();
  const Selection selection = Selection::FromFlags();
  std::vector<uint32_t> found;
  for (const gmem::VmState& vm : *vms) {
    if (selection.HasVm(vm)) found.push_back(vm.id);
  }
  if (found.size() == 1) return found.front();
  if (selection.is_all()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", found.size(),
                     " VMs: choose one with --vm or --name; \"gmemctl list\" shows them"));
  }
  const std::string called = name.empty() ? std::string() : absl::StrCat(" called", NameText(name));
  const std::string of = pid ? absl::StrCat(" of process ", *pid) : std::string();
  if (found.empty()) {
    return absl::NotFoundError(
        id ? absl::StrCat("there is no VM ", *id, ", or it isn't", called, of)
           : absl::StrCat("there is no VM", called, of, ": \"gmemctl list\" shows the VMs"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there are ", found.size(), " VMs", called, of,
                   ": choose one with --vm: ", absl::StrJoin(found, ", ")));
}

absl::StatusOr<gmem::Vm> TakeChosenVm() {
  const VmId id = absl::GetFlag(FLAGS_vm);
  const ProcessId process = absl::GetFlag(FLAGS_pid);
  const FdNumber number = absl::GetFlag(FLAGS_fd);
  const bool has_name = !absl::GetFlag(FLAGS_name).empty();
  if ((!id && !has_name && !process) || (number && (id || has_name || !process))) {
    return absl::InvalidArgumentError("which VM? Give --vm, --name or --pid, or --pid and --fd");
  }
  if (!number) {
    // By its number alone, the VM can be found without the right to netlink.
    if (id && !has_name && !process) return FindVm(static_cast<uint32_t>(*id));
    auto monitor = gmem::Monitor::Open();
    if (!monitor.ok()) return monitor.status();
    const auto chosen = ChooseVm(*monitor);
    if (!chosen.ok()) return chosen.status();
    return FindVm(*chosen);
  }
  const auto pid = static_cast<pid_t>(*process);
  const auto fd = static_cast<int>(*number);
  absl::StatusOr<gmem::UniqueFd> taken = TakeFd(pid, fd);
  if (!taken.ok()) return taken.status();
  absl::StatusOr<gmem::Vm> vm = gmem::Vm::Adopt(*std::move(taken));
  if (vm.ok()) return vm;
  return absl::InvalidArgumentError(
      absl::StrCat("descriptor ", fd, " of process ", pid, " is not a VM"));
}

}  // namespace gmemctl
