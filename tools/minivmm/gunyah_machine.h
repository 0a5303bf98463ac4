// SPDX-License-Identifier: MIT OR Apache-2.0
// An arm64 machine under Gunyah. The hypervisor has its CPUs, their timers and the interrupt
// controller; the VMM has its memory, a serial port and maybe a disk, whose interrupts are
// doorbells.
#ifndef GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_
#define GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_

#include <sys/eventfd.h>

#include <cstdint>
#include <cstring>
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
#include "pool_disk.h"
#include "uart.h"

namespace minivmm {

class GunyahMachine {
 public:
  // Starts the guest in @vm, which PrepareStart() has made ready, with one thread for each vCPU.
  // @console and @disk must outlive the machine. Without @disk, there is no disk.
  GunyahMachine(const gmem::Vm& vm, std::vector<gmem::gunyah::Vcpu> vcpus, Console* console,
                PoolDisk* disk)
      : console_(console),
        disk_(disk),
        interrupt_(AddIrqfd(vm, kSerial.interrupt)),
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
  static constexpr gmem::gunyah::MmioDevice kSerial = gmem::gunyah::kUsualUart;

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

  void HandleMmio(const gmem::gunyah::MmioExit& mmio, gmem::gunyah::Vcpu* vcpu) {
    uint64_t value = 0;
    if (mmio.is_write) {
      std::memcpy(&value, mmio.data.data(), mmio.size);
      Write(mmio.address, mmio.size, value);
    } else {
      value = Read(mmio.address, mmio.size);
      OrDie(vcpu->SetReadData({reinterpret_cast<const uint8_t*>(&value), mmio.size}));
    }
  }

  // Where nothing is, a write does nothing, and a read gets 0.
  void Write(gmem::GuestAddress address, uint32_t size, uint64_t value) {
    if (IsAt(kSerial, address)) {
      // Linux's driver reads and writes a byte at a time.
      uart_.Write(OffsetIn(kSerial, address), static_cast<uint8_t>(value));
    } else if (disk_ != nullptr && IsAt(disk_->place(), address)) {
      disk_->registers().Write(OffsetIn(disk_->place(), address), size, value);
    }
  }
  uint64_t Read(gmem::GuestAddress address, uint32_t size) {
    if (IsAt(kSerial, address)) return uart_.Read(OffsetIn(kSerial, address));
    if (disk_ != nullptr && IsAt(disk_->place(), address)) {
      return disk_->registers().Read(OffsetIn(disk_->place(), address), size);
    }
    return 0;
  }

  static bool IsAt(const gmem::gunyah::MmioDevice& device, gmem::GuestAddress address) {
    return device.registers.Contains({address, gmem::ByteSize(1)});
  }
  static uint64_t OffsetIn(const gmem::gunyah::MmioDevice& device, gmem::GuestAddress address) {
    return address.value() - device.registers.start.value();
  }

  Console* const console_;
  PoolDisk* const disk_;
  const gmem::UniqueFd interrupt_;
  Uart uart_;
  std::vector<std::thread> cpus_;
  absl::Mutex lock_;
  gmem::gunyah::EndExit end_ ABSL_GUARDED_BY(lock_);
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_GUNYAH_MACHINE_H_
