// SPDX-License-Identifier: Apache-2.0
// A PC with one CPU under KVM, no more of it than Linux needs to boot: memory, the
// interrupt controllers and the timer (all in the kernel), and a serial port. It
// has no PCI, no ACPI and no firmware.
#ifndef GMEM_TOOLS_MINIVMM_MACHINE_H_
#define GMEM_TOOLS_MINIVMM_MACHINE_H_

#include <linux/kvm.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "console.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/unique_fd.h"
#include "guest_ram.h"
#include "uart.h"

namespace minivmm {

class Machine {
 public:
  // @ram, with Linux in it, and @console outlive the machine.
  Machine(GuestRam* ram, Console* console);

  // Starts the CPU, in a thread of its own. Once.
  void Start();
  // Waits until the guest has turned the machine off. Once.
  void Wait() { cpu_.join(); }

  // Types a line at the serial console. From any thread.
  void Type(absl::string_view line) { uart_.Receive(absl::StrCat(line, "\n")); }

 private:
  void Run();
  // What KVM_RUN came back for. False if the guest has turned the machine off.
  bool HandleExit();
  bool HandlePort();

  kvm_run* run() const { return reinterpret_cast<kvm_run*>(run_mapping_.data()); }

  GuestRam* const ram_;
  Console* const console_;
  const gmem::UniqueFd kvm_;
  const gmem::kvm::Vm vm_;
  const gmem::kvm::Memslot memslot_;
  Uart uart_;
  gmem::UniqueFd vcpu_;
  gmem::Mapping run_mapping_;
  std::thread cpu_;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_MACHINE_H_
