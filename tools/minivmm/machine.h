// SPDX-License-Identifier: Apache-2.0
// A PC with one CPU under KVM, no more of it than Linux needs to boot: memory, the
// interrupt controllers and the timer (all in the kernel), and a serial port. It
// has no PCI, no ACPI and no firmware.
#ifndef GMEM_TOOLS_MINIVMM_MACHINE_H_
#define GMEM_TOOLS_MINIVMM_MACHINE_H_

#include <linux/kvm.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/unique_fd.h"
#include "linux_boot.h"
#include "uart.h"

namespace minivmm {

class Machine {
 public:
  struct Options {
    // Guest memory from guest address 0 on: one memslot. It outlives the machine.
    absl::Span<uint8_t> memory;
    // Gets each byte that the guest sends through its serial port. Called by the
    // thread in Run().
    std::function<void(char)> console;
    // KVM_RUN failed with EFAULT: the guest touched memory that isn't there. OK
    // lets it try again, an error ends Run(). Called by the thread in Run().
    std::function<absl::Status()> refused_access;
    // How long Run() lasts at most.
    absl::Duration time_limit = absl::InfiniteDuration();
  };

  // NotFound, PermissionDenied, ...: /dev/kvm doesn't work, with its errno's text.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(Options options);

  // Makes the CPU begin as the boot protocol demands. Before the first Run().
  absl::Status SetUpBoot(const BootState& boot);

  // Runs the guest until it powers off (OK) or can't go on. Cancelled after Stop(),
  // DeadlineExceeded at the time limit, with what the CPU was about. Once.
  absl::Status Run();

  // Makes Run() return soon. From any thread.
  void Stop() { stop_ = true; }

  // Run() has the kernel send it a signal several times a second, so that KVM_RUN
  // returns: the process must have a handler for it, which does nothing.
  static void InstallTickHandler();

  // Types at the serial console. From any thread.
  void Type(std::string_view text) { uart_->Receive(text); }

 private:
  Machine(Options options, gmem::UniqueFd kvm, gmem::kvm::Vm vm)
      : options_(std::move(options)), kvm_(std::move(kvm)), vm_(std::move(vm)) {}
  absl::Status SetUpVm();
  absl::Status SetUpVcpu();
  // Makes KVM look for interrupts to inject. Nested in QEMU's emulated SVM, KVM was seen
  // to leave an interrupt pending in the 8259 for good, and the guest without a console.
  absl::Status LookAtInterrupts();
  // "at 0x..., interrupts off, ...", for messages.
  std::string DescribeCpu() const;
  // One KVM_EXIT_IO. True if the guest has turned the machine off.
  bool PortAccess();
  uint32_t PortRead(uint16_t port);

  const Options options_;
  const gmem::UniqueFd kvm_;
  const gmem::kvm::Vm vm_;
  gmem::kvm::Memslot memslot_;
  gmem::UniqueFd vcpu_;
  gmem::Mapping run_mapping_;
  kvm_run* run_ = nullptr;
  std::unique_ptr<Uart> uart_;
  std::atomic<bool> stop_ = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_MACHINE_H_
