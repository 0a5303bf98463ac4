// SPDX-License-Identifier: MIT OR Apache-2.0
// The guest's memory: one guestmem, and a VM of gmem. Any part of the guestmem can be bound to the
// VM at any time, lent or shared. The guest sees the bindings through one window, of the kind that
// suits the host best.
#ifndef GMEM_TOOLS_MINIVMM_GUEST_RAM_H_
#define GMEM_TOOLS_MINIVMM_GUEST_RAM_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "or_die.h"

namespace minivmm {

// Thread-safe, except OnRefusedAccess(), which belongs to the CPU's thread.
class GuestRam {
 public:
  // Guest address N is byte N of the guestmem. Linux's RAM is lent from the start. Behind it lies
  // the pool: Linux doesn't know it, and it has no binding yet.
  static constexpr gmem::ByteSize kRam = gmem::MiB(128), kPool = gmem::MiB(4);
  static constexpr gmem::GuestAddress kPoolStart{kRam.value()};

  explicit GuestRam(const gmem::Device& device)
      : memory_(OrDie(device.CreateGuestMemory(kRam + kPool))),
        vm_(OrDie(device.CreateVm())),
        window_(OrDie(gmem::Window::Create(vm_, {.size = kRam + kPool}))),
        host_(OrDie(memory_.Map())) {
    Plug({.size = kRam}, gmem::MapMode::kLend);
  }

  const gmem::GuestMemory& memory() const { return memory_; }
  const gmem::Vm& vm() const { return vm_; }
  // For KVM. Every touch of it counts as the guest's, even by the VMM.
  const gmem::Window& window() const { return window_; }
  // For the VMM. A touch of it takes back a lent page, or raises SIGBUS.
  const gmem::Mapping& host() const { return host_; }

  // These bind or unbind a range, also while the guest runs.
  void Plug(gmem::GuestRange range, gmem::MapMode mode) { OrDie(Bind(range, mode)); }
  void Unplug(gmem::GuestRange range) { OrDie(window_.Unmap(range)); }

  // Call this when KVM_RUN fails with EFAULT; @changes is the window's NrChanges() before. It lends
  // the guest the pages that it touched, so that the guest can try again.
  void OnRefusedAccess(uint64_t changes) {
    const gmem::FaultReport report = OrDie(vm_.Faults(faults_seen_));
    faults_seen_ = report.last_sequence;
    // The guest came in the middle of a change of the window, which is over now.
    const bool is_refused = std::any_of(
        report.faults.begin(), report.faults.end(),
        [](const gmem::Fault& fault) { return fault.reason != gmem::FaultReason::kStale; });
    if (!is_refused && window_.HasChangedSince(changes)) return;
    bool has_helped = false;
    for (const gmem::Fault& fault : report.faults) has_helped |= Help(fault);
    // The guest tries again until somebody else has helped. That needn't take all of a CPU.
    if (!has_helped) absl::SleepFor(absl::Milliseconds(1));
  }

 private:
  // Returns whether the guest's next try has a better chance than the last.
  bool Help(const gmem::Fault& fault) const {
    const gmem::GuestRange page = {fault.page, memory_.page_size()};
    switch (fault.reason) {
      case gmem::FaultReason::kPinned:
        return false;
      case gmem::FaultReason::kStale:
        OrDie(window_.Refresh(page));
        return true;
      case gmem::FaultReason::kUnbound: {
        // The page is bound already if Plug() was faster, or after another fault of this report.
        const absl::Status status = Bind(page, gmem::MapMode::kLend);
        if (!absl::IsAlreadyExists(status)) OrDie(status);
        return status.ok();
      }
      default:
        Die(absl::InternalError(absl::StrCat("the guest's access to ", gmem::ToString(fault.page),
                                             " was refused: ", gmem::ToString(fault.reason))));
    }
  }

  absl::Status Bind(gmem::GuestRange range, gmem::MapMode mode) const {
    return window_.Map(memory_, {.guest_address = range.start,
                                 .offset = gmem::ByteOffset(range.start.value()),
                                 .size = range.size,
                                 .mode = mode});
  }

  const gmem::GuestMemory memory_;
  const gmem::Vm vm_;
  const gmem::Window window_;
  const gmem::Mapping host_;
  // Of the CPU's thread.
  uint64_t faults_seen_ = 0;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_GUEST_RAM_H_
