// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest on KVM's own guest_memfd: without gmem.ko, on Linux 6.18 or later.
// Documentation/libgmem/guest-memfd.rst goes through it.
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "gmem/kvm/guest_memfd.h"
#include "gmem/kvm/vm.h"
#include "or_die.h"

// Real mode.
constexpr uint64_t kStart = 0x1000, kResult = 0x2000;
constexpr uint8_t kGuestCode[] =
    "\xc6\x06\x00\x20\x2a"  // 1000  mov byte [0x2000], 42
    "\xf4";                 // 1005  hlt

// Runs a new vCPU of a VM from kStart until it exits; returns the exit reason.
uint32_t Run(int kvm, int vm) {
  const gmem::UniqueFd vcpu(OrDie(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"));
  const int run_size = OrDie(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  const gmem::Mapping run = OrDie(
      gmem::Mapping::OfFile(vcpu.get(), {.size = gmem::ByteSize(static_cast<uint64_t>(run_size))}));
  kvm_sregs sregs;
  OrDie(ioctl(vcpu.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  OrDie(ioctl(vcpu.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = kStart;
  regs.rflags = 2;
  OrDie(ioctl(vcpu.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");
  OrDie(ioctl(vcpu.get(), KVM_RUN, 0), "KVM_RUN");
  return reinterpret_cast<const kvm_run*>(run.data())->exit_reason;
}

int main() {
  const gmem::UniqueFd kvm = OrDie(gmem::kvm::OpenDevice());
  const gmem::kvm::Vm vm = OrDie(gmem::kvm::Vm::Create(kvm.get()));
  OrDie(vm.capabilities().CheckGuestMemfd(gmem::kvm::GuestMemfdKind::kShared));

  // Memory for guest and host, allocated now rather than when first used.
  const gmem::kvm::GuestMemfd memory = OrDie(vm.CreateGuestMemfd(gmem::MiB(1)));
  OrDie(memory.Allocate(memory.range()));
  const gmem::Mapping host = OrDie(memory.Map());
  std::memcpy(host.data() + kStart, kGuestCode, sizeof(kGuestCode));

  // The guest's pages come from the file; KVM itself reads them through the mapping.
  const gmem::kvm::Memslot memslot =
      OrDie(vm.AddMemslot({.host = host.span(), .guest_memfd = &memory}));
  if (Run(kvm.get(), vm.fd()) != KVM_EXIT_HLT) Die(absl::InternalError("no halt"));
  std::printf("result: %d\n", host.data()[kResult]);
}
