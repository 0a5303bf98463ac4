// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl reclaim: takes lent pages back on behalf of the VM's owner.
#include <algorithm>
#include <cstdint>
#include <iostream>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "choose.h"
#include "commands.h"
#include "flags.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "nlohmann/json.hpp"
#include "output.h"

namespace gmemctl {

absl::StatusOr<int> RunReclaim(Arguments /*arguments*/) {
  const absl::StatusOr<gmem::Vm> vm = TakeChosenVm();
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
