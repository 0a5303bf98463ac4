// SPDX-License-Identifier: Apache-2.0
#include "machine.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "status_macros.h"

namespace minivmm {

namespace {

constexpr int kTickSignal = SIGUSR1;

// What a PC has at these ports.
constexpr uint16_t kSerialPort = 0x3f8;
constexpr uint32_t kSerialInterrupt = 4;
constexpr uint16_t kKeyboardControl = 0x64;
constexpr uint8_t kKeyboardResetCpu = 0xfe;
constexpr uint16_t kClockData = 0x71;
constexpr uint32_t kNothingThere = 0xff;

// KVM wants three pages of guest addresses for itself on Intel, outside memslots.
constexpr uint64_t kTssAddress = 0xfffbd000;

constexpr uint32_t kMsrMtrrDefaultType = 0x2ff;
constexpr uint64_t kMtrrEnabledWriteBack = 1 << 11 | 6;
// CPUID leaf 1.
constexpr uint32_t kCpuidTscDeadline = 1u << 24, kCpuidHypervisor = 1u << 31;  // ECX
constexpr uint32_t kCpuidApicId = 0xff000000;                                  // EBX

absl::Status Failed(absl::string_view what) { return absl::ErrnoToStatus(errno, what); }

// KVM's structs that end in an array have another size and layout in C++ with the
// headers of Linux 6.1: an empty struct in them takes room. So here they are as in C,
// with the ioctl numbers that belong to them.
struct CpuidTable {
  uint32_t nr_entries, padding;
  kvm_cpuid_entry2 entries[256];
};
struct OneMsr {
  uint32_t nr_entries, padding;
  kvm_msr_entry entry;
};
constexpr size_t kArrayHeader = sizeof(uint64_t);
constexpr unsigned long kGetSupportedCpuid =
    _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, kArrayHeader);
constexpr unsigned long kSetCpuid2 = _IOC(_IOC_WRITE, KVMIO, 0x90, kArrayHeader);
constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, kArrayHeader);

kvm_segment FlatSegment(uint16_t selector, uint8_t type) {
  kvm_segment segment = {};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = segment.db = segment.s = segment.g = 1;
  return segment;
}

// Interrupts the calling thread's KVM_RUN now and then, as long as it lives.
class Ticker {
 public:
  Ticker() {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kTickSignal;
    event._sigev_un._tid = gettid();
    created_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
    // Can't fail for a timer just made.
    if (created_) timer_settime(timer_, 0, &kInterval, nullptr);
  }
  ~Ticker() {
    if (created_) timer_delete(timer_);
  }

  bool Runs() const { return created_; }

 private:
  static constexpr itimerspec kInterval = {.it_interval = {.tv_sec = 0, .tv_nsec = 200'000'000},
                                           .it_value = {.tv_sec = 0, .tv_nsec = 200'000'000}};
  timer_t timer_ = {};
  bool created_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(Options options) {
  MINIVMM_ASSIGN_OR_RETURN(gmem::UniqueFd kvm, gmem::kvm::OpenDevice());
  MINIVMM_ASSIGN_OR_RETURN(gmem::kvm::Vm vm, gmem::kvm::Vm::Create(kvm.get()));
  std::unique_ptr<Machine> machine(new Machine(std::move(options), std::move(kvm), std::move(vm)));
  MINIVMM_RETURN_IF_ERROR(machine->SetUpVm());
  MINIVMM_RETURN_IF_ERROR(machine->SetUpVcpu());
  return machine;
}

absl::Status Machine::SetUpVm() {
  if (ioctl(vm_.fd(), KVM_SET_TSS_ADDR, kTssAddress)) return Failed("KVM_SET_TSS_ADDR");
  if (ioctl(vm_.fd(), KVM_CREATE_IRQCHIP, 0)) return Failed("KVM_CREATE_IRQCHIP");
  kvm_pit_config pit = {};
  if (ioctl(vm_.fd(), KVM_CREATE_PIT2, &pit)) return Failed("KVM_CREATE_PIT2");
  MINIVMM_ASSIGN_OR_RETURN(memslot_, vm_.AddMemslot({.host = options_.memory}));

  uart_ = std::make_unique<Uart>(options_.console, [vm = vm_.fd()](bool level) {
    kvm_irq_level irq = {};
    irq.irq = kSerialInterrupt;
    irq.level = level;
    // Can't fail for a line of the chip made above.
    ioctl(vm, KVM_IRQ_LINE, &irq);
  });
  return absl::OkStatus();
}

absl::Status Machine::SetUpVcpu() {
  vcpu_ = gmem::UniqueFd(ioctl(vm_.fd(), KVM_CREATE_VCPU, 0));
  if (!vcpu_) return Failed("KVM_CREATE_VCPU");
  int size = ioctl(kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < 0) return Failed("KVM_GET_VCPU_MMAP_SIZE");
  MINIVMM_ASSIGN_OR_RETURN(
      run_mapping_,
      gmem::Mapping::OfFile(vcpu_.get(), {.offset = gmem::ByteOffset(0),
                                          .size = gmem::ByteSize(static_cast<uint64_t>(size))}));
  run_ = reinterpret_cast<kvm_run*>(run_mapping_.data());

  // The CPU is what KVM can do at its best; the TSC deadline timer, which KVM
  // leaves to its user to announce, spares Linux the calibration of another.
  auto cpuid = std::make_unique<CpuidTable>();
  cpuid->nr_entries = std::size(cpuid->entries);
  if (ioctl(kvm_.get(), kGetSupportedCpuid, cpuid.get())) return Failed("KVM_GET_SUPPORTED_CPUID");
  if (ioctl(kvm_.get(), KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0) {
    for (kvm_cpuid_entry2& entry : std::span(cpuid->entries, cpuid->nr_entries)) {
      if (entry.function == 1) {
        entry.ecx |= kCpuidTscDeadline | kCpuidHypervisor;
        entry.ebx &= ~kCpuidApicId;
      } else if (entry.function == 0xb || entry.function == 0x1f) {
        entry.edx = 0;
      }
    }
  }
  if (ioctl(vcpu_.get(), kSetCpuid2, cpuid.get())) return Failed("KVM_SET_CPUID2");

  // Memory is cached by default, as firmware sets it up: Linux refuses to map
  // as cached what the MTRRs say isn't.
  OneMsr msrs = {};
  msrs.nr_entries = 1;
  msrs.entry.index = kMsrMtrrDefaultType;
  msrs.entry.data = kMtrrEnabledWriteBack;
  if (ioctl(vcpu_.get(), kSetMsrs, &msrs) != 1) return Failed("KVM_SET_MSRS");
  return absl::OkStatus();
}

absl::Status Machine::SetUpBoot(const BootState& boot) {
  kvm_sregs sregs = {};
  if (ioctl(vcpu_.get(), KVM_GET_SREGS, &sregs)) return Failed("KVM_GET_SREGS");
  constexpr uint8_t kExecuteRead = 0xb, kReadWrite = 0x3;  // accessed
  sregs.cs = FlatSegment(boot.code_selector, kExecuteRead);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss =
      FlatSegment(boot.data_selector, kReadWrite);
  sregs.gdt.base = boot.gdt;
  sregs.gdt.limit = boot.gdt_limit;
  sregs.cr0 |= 1;  // protected mode
  if (ioctl(vcpu_.get(), KVM_SET_SREGS, &sregs)) return Failed("KVM_SET_SREGS");

  kvm_regs regs = {};
  regs.rip = boot.entry;
  regs.rsi = boot.boot_params;
  regs.rflags = 2;  // always set; no interrupts
  if (ioctl(vcpu_.get(), KVM_SET_REGS, &regs)) return Failed("KVM_SET_REGS");
  return absl::OkStatus();
}

uint32_t Machine::PortRead(uint16_t port) {
  if (port >= kSerialPort && port < kSerialPort + Uart::kNrRegisters) {
    return uart_->Read(port - kSerialPort);
  }
  // Never busy: Linux waits for these two.
  if (port == kKeyboardControl || port == kClockData) return 0;
  return kNothingThere;
}

bool Machine::PortAccess() {
  uint8_t* data = run_mapping_.data() + run_->io.data_offset;
  const uint16_t port = run_->io.port;
  for (uint32_t i = 0; i < run_->io.count; ++i, data += run_->io.size) {
    if (run_->io.direction == KVM_EXIT_IO_IN) {
      std::memset(data, kNothingThere, run_->io.size);
      *data = static_cast<uint8_t>(PortRead(port));
    } else if (port >= kSerialPort && port < kSerialPort + Uart::kNrRegisters) {
      uart_->Write(port - kSerialPort, *data);
    } else if (port == kKeyboardControl && *data == kKeyboardResetCpu) {
      return true;
    }
  }
  return false;
}

absl::Status Machine::LookAtInterrupts() {
  kvm_vcpu_events events = {};
  if (ioctl(vcpu_.get(), KVM_GET_VCPU_EVENTS, &events)) return Failed("KVM_GET_VCPU_EVENTS");
  if (ioctl(vcpu_.get(), KVM_SET_VCPU_EVENTS, &events)) return Failed("KVM_SET_VCPU_EVENTS");
  return absl::OkStatus();
}

std::string Machine::DescribeCpu() const {
  constexpr uint64_t kInterruptsOn = 1 << 9;
  kvm_regs regs = {};
  kvm_irqchip chip = {};
  chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
  if (ioctl(vcpu_.get(), KVM_GET_REGS, &regs) || ioctl(vm_.fd(), KVM_GET_IRQCHIP, &chip)) {
    return absl::StrCat("in an unknown state: ", std::strerror(errno));
  }
  return absl::StrFormat("at %#x, interrupts %s, 8259: requested %#x, masked %#x, in service %#x",
                         regs.rip, regs.rflags & kInterruptsOn ? "on" : "off", chip.chip.pic.irr,
                         chip.chip.pic.imr, chip.chip.pic.isr);
}

absl::Status Machine::Run() {
  const absl::Time end = absl::Now() + options_.time_limit;
  Ticker ticker;
  if (!ticker.Runs()) return Failed("timer_create");
  for (;;) {
    if (stop_) return absl::CancelledError("the machine was stopped");
    if (absl::Now() > end) {
      return absl::DeadlineExceededError(absl::StrCat("the guest still runs after ",
                                                      absl::FormatDuration(options_.time_limit),
                                                      ", its CPU is ", DescribeCpu()));
    }
    if (ioctl(vcpu_.get(), KVM_RUN, 0)) {
      if (errno == EINTR) {
        absl::Status status = LookAtInterrupts();
        if (!status.ok()) return status;
        continue;
      }
      if (errno != EFAULT) return Failed("KVM_RUN");
      absl::Status status = options_.refused_access();
      if (!status.ok()) return status;
      continue;
    }
    switch (run_->exit_reason) {
      case KVM_EXIT_IO:
        if (PortAccess()) return absl::OkStatus();
        break;
      case KVM_EXIT_MMIO:
        // Nothing is there: reads give all ones, as on a PC.
        if (!run_->mmio.is_write) std::memset(run_->mmio.data, kNothingThere, run_->mmio.len);
        break;
      case KVM_EXIT_SHUTDOWN:
        return absl::AbortedError("the guest's CPU met a triple fault");
      default:
        return absl::InternalError(
            absl::StrFormat("KVM_RUN: exit reason %u isn't handled", run_->exit_reason));
    }
  }
}

void Machine::InstallTickHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(kTickSignal, &action, nullptr);
}

}  // namespace minivmm
