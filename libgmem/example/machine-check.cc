// SPDX-License-Identifier: MIT OR Apache-2.0
// A page of guest memory breaks, and the VMM tells its guest as hardware would.
// Documentation/libgmem/memory-failure.rst goes through it.
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "gmem/device.h"
#include "gmem/kvm/vm.h"
#include "gmem/window.h"
#include "or_die.h"

constexpr uint64_t kVectors = 0, kStart = 0x1000, kHandler = 0x1010, kResult = 0x2000,
                   kBroken = 0x3000, kMachineCheckVector = 18;
// Real mode: read the broken page.
constexpr char kGuestCode[] = "\xa0\x00\x30\xf4";  // mov al, [0x3000]; hlt
// Real mode: store the address that the CPU reports, print the text, halt.
constexpr char kHandlerCode[] =  // mov ecx, 0x406; rdmsr; mov [0x2000], eax; mov si, 0x102c
    "\x66\xb9\x06\x04\x00\x00\x0f\x32\x66\xa3\x00\x20\xbe\x2c\x10"
    "\xac\x84\xc0\x74\x04\xe6\xe9\xeb\xf7\xf4"  // 1: lodsb; test; jz 2; out 0xe9, al; jmp 1; 2: hlt
    "\x90\x90\x90"
    "guest: machine check\n";

// IA32_MCi_STATUS, IA32_MCi_MISC and IA32_MCG_STATUS of Intel's manual (volume 3, "Machine-check
// architecture"), for a load whose data is lost: uncorrected, valid address, action required.
constexpr uint64_t kStatus = 1ull << 63 | 1ull << 61 | 1ull << 60 | 1ull << 59 | 1ull << 58 |
                             1ull << 56 | 1ull << 55 | 0x134;
constexpr uint64_t kPhysicalPage = 2 << 6 | 12;  // a physical address, of a page of 2^12 bytes
constexpr uint64_t kGlobalStatus = 1 << 2 | 1 << 1 | 1 << 0;  // in progress; the vCPU can go on
constexpr uint8_t kBank = 1;

// Call this when KVM_RUN has failed with EFAULT. *seen is the last row that was handled.
void HandleRefusal(const gmem::Vm& vm, int vcpu, uint64_t* seen) {
  const gmem::FaultReport report = OrDie(vm.Faults(*seen));
  *seen = report.last_sequence;
  // Without a new row, nothing was refused: run the vCPU again.
  if (report.faults.empty()) return;
  if (report.faults.back().reason != gmem::FaultReason::kHwPoison) {
    Die(absl::InternalError("the guest touched memory that it doesn't have"));
  }
  const gmem::GuestAddress page = report.faults.back().page;
  std::printf("the guest touched a broken page: %s\n", gmem::ToString(page).c_str());
  kvm_x86_mce mce = {};
  mce.status = kStatus;
  mce.addr = page.value();
  mce.misc = kPhysicalPage;
  mce.mcg_status = kGlobalStatus;
  mce.bank = kBank;
  OrDie(ioctl(vcpu, KVM_X86_SET_MCE, &mce), "KVM_X86_SET_MCE");
}

// A vCPU in real mode that takes machine checks.
gmem::UniqueFd MakeCpu(const gmem::kvm::Vm& kvm_vm) {
  gmem::UniqueFd vcpu(OrDie(ioctl(kvm_vm.fd(), KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"));
  uint64_t banks = kBank + 1;
  OrDie(ioctl(vcpu.get(), KVM_X86_SETUP_MCE, &banks), "KVM_X86_SETUP_MCE");
  kvm_sregs sregs;
  OrDie(ioctl(vcpu.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  sregs.cr4 |= 1 << 6;  // MCE: a guest sets it when its handler is ready
  OrDie(ioctl(vcpu.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = kStart;
  regs.rsp = 0x8000;
  regs.rflags = 2;
  OrDie(ioctl(vcpu.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");
  return vcpu;
}

int main() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(1)));
  const gmem::Mapping host = OrDie(memory.Map());
  std::memcpy(host.data() + kStart, kGuestCode, sizeof(kGuestCode));
  std::memcpy(host.data() + kHandler, kHandlerCode, sizeof(kHandlerCode));
  // A vector of real mode: offset, segment.
  const uint16_t vector[2] = {kHandler, 0};
  std::memcpy(host.data() + kVectors + 4 * kMachineCheckVector, vector, sizeof(vector));

  const gmem::Vm vm = OrDie(device.CreateVm({.windows = gmem::WindowKind::kLive}));
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(1)}));
  OrDie(window.Map(memory, {.size = memory.size()}));
  const gmem::UniqueFd kvm = OrDie(gmem::kvm::OpenDevice());
  const gmem::kvm::Vm kvm_vm = OrDie(gmem::kvm::Vm::Create(kvm.get()));
  const auto memslot = OrDie(kvm_vm.AddMemslot({.host = window.HostMemory(window.range())}));
  const gmem::UniqueFd vcpu = MakeCpu(kvm_vm);
  const gmem::ByteSize run_size(OrDie(ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0), "kvm_run"));
  const gmem::Mapping shared = OrDie(gmem::Mapping::OfFile(vcpu.get(), {.size = run_size}));
  const auto* run = reinterpret_cast<const kvm_run*>(shared.data());

  // Hardware doesn't break on demand. For root, the kernel can behave as if it had. It sends SIGBUS
  // to the process that asks, so let a child ask.
  host.data()[kBroken] = 1;
  const pid_t child = OrDie(fork(), "fork");
  if (child == 0) _exit(madvise(host.data() + kBroken, 4096, MADV_HWPOISON) == 0 ? 0 : errno);
  int status = 0;
  OrDie(waitpid(child, &status, 0), "waitpid");
  // The signal ends the child, unless the kernel refuses.
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
    Die(absl::ErrnoToStatus(WEXITSTATUS(status), "MADV_HWPOISON"));
  }

  uint64_t seen = 0;
  for (;;) {
    if (ioctl(vcpu.get(), KVM_RUN, 0) == 0) {
      if (run->exit_reason != KVM_EXIT_IO) break;
      std::putchar(shared.data()[run->io.data_offset]);
    } else if (errno == EFAULT) {
      HandleRefusal(vm, vcpu.get(), &seen);
    } else {
      Die(absl::ErrnoToStatus(errno, "KVM_RUN"));
    }
  }
  if (run->exit_reason != KVM_EXIT_HLT) Die(absl::InternalError("the guest didn't halt"));
  uint32_t address;
  std::memcpy(&address, host.data() + kResult, sizeof(address));
  std::printf("the guest's CPU reported the address: 0x%x\n", address);

  // The guest no longer uses the page. This gives it a new one, of zeroes.
  const gmem::ByteRange page = {gmem::ByteOffset(kBroken), gmem::KiB(4)};
  OrDie(memory.PunchHole(page));
  std::printf("byte in the new page: %d\n", window.data()[kBroken]);
}
