// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest of a few instructions, on memory lent to it: see Documentation/libgmem/first-vm.rst.
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "gmem/device.h"
#include "gmem/kvm/vm.h"
#include "gmem/window.h"
#include "or_die.h"

constexpr gmem::GuestAddress kStart(0x1000), kResult(0x2000);
// Real mode: print the text, write 42 to kResult, halt.
constexpr char kGuestCode[] =  // mov si, 0x1012; 1: lodsb; test al, al; jz 2; out 0xe9, al; jmp 1
    "\xbe\x12\x10\xac\x84\xc0\x74\x04\xe6\xe9\xeb\xf7"
    "\xc6\x06\x00\x20\x2a\xf4"  // 2: mov byte [0x2000], 42; hlt
    "Hello from the guest!\n";

int main() {
  // 1 MiB of memory for guests. The host may use a page until a guest uses it.
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(1)));
  const gmem::Mapping host = OrDie(memory.Map());
  std::memcpy(host.data() + kStart.value(), kGuestCode, sizeof(kGuestCode));

  // The guest's address space, and a window that shows it in this process. The memory is lent, from
  // guest address 0 on.
  const gmem::Vm vm = OrDie(device.CreateVm());
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(1)}));
  OrDie(window.Map(memory, {.size = memory.size(), .mode = gmem::MapMode::kLend}));

  // KVM gets the window as one memslot.
  const gmem::UniqueFd kvm = OrDie(gmem::kvm::OpenDevice());
  const gmem::kvm::Vm kvm_vm = OrDie(gmem::kvm::Vm::Create(kvm.get()));
  const auto memslot = OrDie(kvm_vm.AddMemslot({.host = window.HostMemory(window.range())}));

  // A vCPU in real mode, at the guest's first instruction.
  const gmem::UniqueFd vcpu(OrDie(ioctl(kvm_vm.fd(), KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"));
  const gmem::ByteSize run_size(OrDie(ioctl(kvm.get(), KVM_GET_VCPU_MMAP_SIZE, 0), "kvm_run"));
  const gmem::Mapping shared = OrDie(gmem::Mapping::OfFile(vcpu.get(), {.size = run_size}));
  const auto* run = reinterpret_cast<const kvm_run*>(shared.data());
  kvm_sregs sregs;
  OrDie(ioctl(vcpu.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  OrDie(ioctl(vcpu.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = kStart.value();
  OrDie(ioctl(vcpu.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");

  // Run it and print the bytes that it sends, until it halts.
  while (OrDie(ioctl(vcpu.get(), KVM_RUN, 0), "KVM_RUN") == 0 && run->exit_reason == KVM_EXIT_IO)
    std::putchar(shared.data()[run->io.data_offset]);
  if (run->exit_reason != KVM_EXIT_HLT) Die(absl::InternalError("the guest didn't halt"));

  // The guest has the pages that it used; the host's touch takes one back.
  std::printf("pages lent: %" PRIu64 "\n", OrDie(memory.Query()).lent);
  std::printf("result: %d\n", host.data()[kResult.value()]);
  std::printf("pages lent: %" PRIu64 "\n", OrDie(memory.Query()).lent);
}
