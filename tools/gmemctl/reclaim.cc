// SPDX-License-Identifier: Apache-2.0
// gmemctl reclaim: takes lent pages back on behalf of the VM's owner.
#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "commands.h"
#include "find.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "nlohmann/json.hpp"
#include "output.h"

namespace gmemctl {
namespace {

absl::StatusOr<gmem::Vm> OpenVm() {
  const VmId id = absl::GetFlag(FLAGS_vm);
  const bool has_name = !absl::GetFlag(FLAGS_name).empty();
  const ProcessId process = absl::GetFlag(FLAGS_pid);
  const FdNumber number = absl::GetFlag(FLAGS_fd);
  if ((id || has_name) == process.has_value() || process.has_value() != number.has_value()) {
    return absl::InvalidArgumentError("which VM? Give --vm or --name, or --pid and --fd");
  }
  // Without a name, the caller needs no right to netlink.
  if (id && !has_name) return FindVm(static_cast<uint32_t>(*id));
  if (has_name) {
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

}  // namespace

absl::StatusOr<int> RunReclaim(Arguments /*arguments*/) {
  const absl::StatusOr<gmem::Vm> vm = OpenVm();
  if (!vm.ok()) return vm.status();
  const gmem::GuestAddress start(absl::GetFlag(FLAGS_address).value_or(0));
  gmem::ByteSize size(absl::GetFlag(FLAGS_size).value_or(0));
  if (size.value() == 0) {
    // The range extends to the end of the address space.
    const int bits = vm->GuestAddressBits();
    if (bits == 0) return absl::InternalError("the VM's address width is unknown: give --size");
    const gmem::GuestAddress end(uint64_t{1} << std::clamp(bits, 12, 63));
    if (start >= end) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--address ", ToString(start), " is beyond the VM's address space of ", bits, " bits"));
    }
    size = end - start;
  }
  uint64_t pages = 0;
  const absl::Status status = vm->Reclaim({start, size}, &pages);
  if (!status.ok()) {
    if (pages == 0) return status;
    // These pages came back nevertheless.
    return absl::Status(status.code(), absl::StrCat(status.message(), ", after ",
                                                    tools::Counted(pages, "page"), " came back"));
  }
  if (WantsJson()) {
    PrintJson({{"reclaimed_pages", pages}});
  } else {
    std::cout << tools::Counted(pages, "page") << " taken back\n";
  }
  return 0;
}

}  // namespace gmemctl
