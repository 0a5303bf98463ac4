// SPDX-License-Identifier: Apache-2.0
// An arm64 machine under Gunyah. The hypervisor has its CPUs, their timers and the interrupt
// controller; the VMM has its memory and a serial port, whose interrupt is a doorbell.
#ifndef GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_
#define GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_

#include <sys/eventfd.h>

#include <cstdint>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "console.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "gunyah_function.h"
#include "or_die.h"
#include "uart.h"

namespace minivmm {

class GunyahMachine {
 public:
  // Starts the guest in @vm, which PrepareStart() has made ready, with one thread for each vCPU.
  // @console must outlive the machine.
  GunyahMachine(const gmem::Vm& vm, std::vector<gmem::gunyah::Vcpu> vcpus, Console* console)
      : console_(console),
        interrupt_(AddIrqfd(vm, gmem::gunyah::kUsualUart.interrupt)),
        uart_([console](char byte) { console->Put(byte); },
              [this](bool level) {
                if (level) OrDie(eventfd_write(interrupt_.get(), 1), "eventfd");
              }) {
    OrDie(gmem::gunyah::Start(vm));
    for (gmem::gunyah::Vcpu& vcpu : vcpus) {
      cpus_.emplace_back([this, vcpu = std::move(vcpu)]() mutable { Run(&vcpu); });
    }
  }

  // Waits until the guest has turned the machine off, and returns how it ended. Call this before
  // the destructor.
  gmem::gunyah::EndExit Wait() {
    for (std::thread& cpu : cpus_) cpu.join();
    console_->Close();
    absl::MutexLock guard(&lock_);
    return end_;
  }

  // Types a line at the serial console. Any thread may call this.
  void Type(absl::string_view line) { uart_.Receive(absl::StrCat(line, "\n")); }

 private:
  void Run(gmem::gunyah::Vcpu* vcpu) {
    for (;;) {
      const absl::StatusOr<gmem::gunyah::Exit> exit = vcpu->Run();
      if (absl::IsUnavailable(exit.status())) continue;
      OrDie(exit.status());
      if (const auto* mmio = std::get_if<gmem::gunyah::MmioExit>(&*exit)) {
        HandleMmio(*mmio, vcpu);
      } else if (const auto* end = std::get_if<gmem::gunyah::EndExit>(&*exit)) {
        absl::MutexLock guard(&lock_);
        end_ = *end;
        return;
      } else {
        Die(absl::InternalError(gmem::gunyah::ToString(*exit)));
      }
    }
  }

  // Linux's driver reads and writes a byte at a time.
  void HandleMmio(const gmem::gunyah::MmioExit& mmio, gmem::gunyah::Vcpu* vcpu) {
    constexpr gmem::GuestRange kSerial = gmem::gunyah::kUsualUart.registers;
    const uint64_t offset = mmio.address.value() - kSerial.start.value();
    const bool serial = offset < kSerial.size.value();
    if (mmio.is_write) {
      if (serial) uart_.Write(offset, mmio.data[0]);
      return;
    }
    const uint8_t value = serial ? uart_.Read(offset) : 0;
    OrDie(vcpu->SetReadData({&value, 1}));
  }

  Console* const console_;
  const gmem::UniqueFd interrupt_;
  Uart uart_;
  std::vector<std::thread> cpus_;
  absl::Mutex lock_;
  gmem::gunyah::EndExit end_ ABSL_GUARDED_BY(lock_);
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_
