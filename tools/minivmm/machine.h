// SPDX-License-Identifier: MIT OR Apache-2.0
// A PC with one CPU under KVM. It has only the parts that Linux needs to boot: memory, interrupt
// controllers and a timer (both in the kernel), and a serial port. It has no PCI, no ACPI and no
// firmware.
#ifndef GMEM_TOOLS_MINIVMM_MACHINE_H_
#define GMEM_TOOLS_MINIVMM_MACHINE_H_

#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "console.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/unique_fd.h"
#include "guest_ram.h"
#include "linux_boot.h"
#include "or_die.h"
#include "uart.h"

namespace minivmm {

// The limit of the guest's run time.
constexpr absl::Duration kTimeLimit = absl::Minutes(3);
constexpr useconds_t kTick = 200'000;

// The devices of a PC at these ports.
constexpr uint16_t kSerialPort = 0x3f8, kKeyboardControl = 0x64, kClockData = 0x71;
constexpr uint32_t kSerialInterrupt = 4;
constexpr uint8_t kKeyboardResetCpu = 0xfe, kNothingThere = 0xff;

// With the headers of Linux 6.1, KVM's structs that end in an array have another size and layout in
// C++ than in C: an empty struct in them takes room. So these are as in C, with the ioctl numbers
// that belong to them.
template <typename Entry, uint32_t size>
struct Table {
  uint32_t nr_entries = size, padding = 0;
  Entry entries[size] = {};
};
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, uint64_t);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, uint64_t);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, uint64_t);

inline void SetUpCpu(int kvm, int vcpu) {
  // The CPU has all features that KVM supports. The VMM itself must announce the TSC deadline
  // timer; with it, Linux needn't calibrate another timer.
  const auto cpuid = std::make_unique<Table<kvm_cpuid_entry2, 256>>();
  OrDie(ioctl(kvm, kGetSupportedCpuid, cpuid.get()), "KVM_GET_SUPPORTED_CPUID");
  for (kvm_cpuid_entry2& entry : cpuid->entries) {
    if (entry.function == 1) {
      entry.ecx |= 1u << 24 | 1u << 31;  // TSC deadline timer, hypervisor
      entry.ebx &= 0x00ffffff;           // APIC ID 0
    } else if (entry.function == 0xb || entry.function == 0x1f) {
      entry.edx = 0;  // x2APIC ID
    }
  }
  OrDie(ioctl(vcpu, kSetCpuid2, cpuid.get()), "KVM_SET_CPUID2");

  // Make memory cached by default, as firmware does: Linux refuses a cached mapping of memory that
  // the MTRRs don't make cached.
  Table<kvm_msr_entry, 1> msrs;
  msrs.entries[0].index = 0x2ff;       // the MTRRs' default type
  msrs.entries[0].data = 1 << 11 | 6;  // on, write-back
  OrDie(ioctl(vcpu, kSetMsrs, &msrs), "KVM_SET_MSRS");
}

inline void SetRegisters(int vcpu) {
  kvm_sregs sregs = {};
  OrDie(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  // Change the segments of real mode to flat ones.
  for (kvm_segment* segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss}) {
    segment->base = 0;
    segment->limit = 0xffffffff;
    segment->selector = segment == &sregs.cs ? kCodeSelector : kDataSelector;
    segment->db = segment->g = 1;
  }
  sregs.gdt.base = kGdt;
  sregs.gdt.limit = sizeof(kGdtEntries) - 1;
  sregs.cr0 |= 1;  // protected mode
  OrDie(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");

  kvm_regs regs = {};
  regs.rip = kEntry;
  regs.rsi = kBootParams;
  regs.rflags = 2;  // always set; no interrupts
  OrDie(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

class Machine {
 public:
  // Boots the Linux in @ram; a thread is the CPU. @ram and @console must outlive the machine.
  Machine(GuestRam* ram, Console* console)
      : ram_(ram),
        console_(console),
        kvm_(OrDie(gmem::kvm::OpenDevice())),
        vm_(OrDie(gmem::kvm::Vm::Create(kvm_.get()))),
        // One memslot for all guest memory. Bindings below it may change; the memslot stays.
        memslot_(OrDie(vm_.AddMemslot({.host = ram->window().HostMemory(ram->window().range())}))),
        uart_([console](char byte) { console->Put(byte); },
              [vm = vm_.fd()](bool level) {
                kvm_irq_level irq = {};
                irq.irq = kSerialInterrupt;
                irq.level = level;
                OrDie(ioctl(vm, KVM_IRQ_LINE, &irq), "KVM_IRQ_LINE");
              }) {
    // On Intel, KVM needs three pages of guest addresses for itself, outside memslots.
    OrDie(ioctl(vm_.fd(), KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    OrDie(ioctl(vm_.fd(), KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    kvm_pit_config pit = {};
    OrDie(ioctl(vm_.fd(), KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
    vcpu_.reset(OrDie(ioctl(vm_.fd(), KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"));
    const gmem::ByteSize run_size(OrDie(ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0), "kvm_run"));
    run_mapping_ = OrDie(gmem::Mapping::OfFile(vcpu_.get(), {.size = run_size}));
    SetUpCpu(kvm_.get(), vcpu_.get());
    SetRegisters(vcpu_.get());
    cpu_ = std::thread([this] {
      Run();
      console_->Close();
    });
    // The signal makes KVM_RUN return at intervals. Block it here, so that the CPU's thread gets
    // it.
    signal(SIGALRM, [](int) {});
    sigset_t tick;
    sigemptyset(&tick);
    sigaddset(&tick, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &tick, nullptr);
    ualarm(kTick, kTick);
  }

  // Waits until the guest has turned the machine off. Call this before the destructor.
  void Wait() { cpu_.join(); }

  // Types a line at the serial console. Any thread may call this.
  void Type(absl::string_view line) { uart_.Receive(absl::StrCat(line, "\n")); }

 private:
  void Run() {
    const absl::Time end = absl::Now() + kTimeLimit;
    while (absl::Now() < end) {
      const uint64_t changes = ram_->window().NrChanges();
      if (ioctl(vcpu_.get(), KVM_RUN, 0) == 0) {
        if (!HandleExit()) return;
      } else if (errno == EFAULT) {
        ram_->OnRefusedAccess(changes);
      } else if (errno == EINTR) {
        // Make KVM look for interrupts to inject. Nested in QEMU's emulated SVM, KVM was seen to
        // leave one pending in the 8259 forever; the guest's console hung then.
        kvm_vcpu_events events = {};
        OrDie(ioctl(vcpu_.get(), KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
        OrDie(ioctl(vcpu_.get(), KVM_SET_VCPU_EVENTS, &events), "KVM_SET_VCPU_EVENTS");
      } else {
        Die(absl::ErrnoToStatus(errno, "KVM_RUN"));
      }
    }
    Die(absl::DeadlineExceededError("the guest doesn't come to an end"));
  }

  // Handles the exit of KVM_RUN. Returns false if the guest has turned the machine off.
  bool HandleExit() {
    switch (run()->exit_reason) {
      case KVM_EXIT_IO:
        return HandlePort();
      case KVM_EXIT_MMIO:
        if (!run()->mmio.is_write) std::memset(run()->mmio.data, kNothingThere, run()->mmio.len);
        return true;
      default:
        Die(absl::InternalError(
            absl::StrCat("KVM_RUN: exit reason ", run()->exit_reason, " isn't handled")));
    }
  }

  // Linux's drivers for these devices read and write a byte at a time.
  bool HandlePort() {
    const auto& io = run()->io;
    uint8_t* const data = run_mapping_.data() + io.data_offset;
    const bool serial = io.port >= kSerialPort && io.port < kSerialPort + Uart::kNrRegisters;
    if (io.direction == KVM_EXIT_IO_IN) {
      std::memset(data, kNothingThere, size_t{io.size} * io.count);
      if (serial) *data = uart_.Read(io.port - kSerialPort);
      // These two are never busy: Linux waits until they are ready.
      if (io.port == kKeyboardControl || io.port == kClockData) *data = 0;
      return true;
    }
    if (serial) uart_.Write(io.port - kSerialPort, *data);
    return io.port != kKeyboardControl || *data != kKeyboardResetCpu;
  }

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
