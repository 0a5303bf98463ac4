// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest lends and shares its memory by a hypercall: with gmem, and with KVM's own guest_memfd.
// Documentation/libgmem/change-memory.rst goes through it.
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>

#include "gmem/device.h"
#include "gmem/kvm/vm.h"
#include "gmem/window.h"
#include "or_die.h"

constexpr gmem::ByteSize kSize = gmem::KiB(64);
constexpr gmem::GuestAddress kData(0x2000);
constexpr uint8_t kGuestCode[] =              // real mode, at 0x1000
    "\x66\xb8\x0c\0\0\0\x66\xbb\x00\x20\0\0"  //  mov eax, KVM_HC_MAP_GPA_RANGE; mov ebx, kData
    "\x66\xb9\x01\0\0\0\x66\xba\x10\0\0\0"    //  mov ecx, one page; mov edx, encrypted
    "\x0f\x01\xd9\xc6\x06\x00\x20\x2a"        //  vmmcall; mov byte [kData], 42
    "\x66\xb8\x0c\0\0\0\x66\x31\xd2"          //  mov eax, KVM_HC_MAP_GPA_RANGE; xor edx, edx
    "\x0f\x01\xd9\xf4";                       //  vmmcall; hlt

// Converts a range: to private memory of the guest, or to memory that the host has, too.
using Convert = std::function<absl::Status(gmem::GuestRange range, bool to_private)>;

// Runs a new vCPU until it halts. Its hypercalls end KVM_RUN.
void Run(int kvm, int vm, const Convert& convert) {
  kvm_enable_cap exits = {};
  exits.cap = KVM_CAP_EXIT_HYPERCALL;
  exits.args[0] = 1 << KVM_HC_MAP_GPA_RANGE;
  OrDie(ioctl(vm, KVM_ENABLE_CAP, &exits), "KVM_CAP_EXIT_HYPERCALL");
  const gmem::UniqueFd vcpu(OrDie(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU"));
  const int run_size = OrDie(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
  const gmem::Mapping mapping = OrDie(
      gmem::Mapping::OfFile(vcpu.get(), {.size = gmem::ByteSize(static_cast<uint64_t>(run_size))}));
  auto* const run = reinterpret_cast<kvm_run*>(mapping.data());
  kvm_sregs sregs;
  OrDie(ioctl(vcpu.get(), KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  OrDie(ioctl(vcpu.get(), KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  kvm_regs regs = {};
  regs.rip = 0x1000;
  regs.rflags = 2;
  OrDie(ioctl(vcpu.get(), KVM_SET_REGS, &regs), "KVM_SET_REGS");
  while (OrDie(ioctl(vcpu.get(), KVM_RUN, 0), "KVM_RUN") == 0 && run->exit_reason != KVM_EXIT_HLT) {
    if (run->exit_reason != KVM_EXIT_HYPERCALL) Die(absl::InternalError("another exit"));
    const auto& [address, pages, attributes, a3, a4, a5] = run->hypercall.args;
    const gmem::GuestRange range = {gmem::GuestAddress(address), gmem::KiB(4 * pages)};
    const bool to_private = (attributes & KVM_MAP_GPA_RANGE_ENCRYPTED) != 0;
    // The number may be so large that the size in bytes wraps.
    const absl::Status status = pages <= kSize.value() / 4096 ? convert(range, to_private)
                                                              : absl::OutOfRangeError("too many");
    // The guest decides what a refusal means.
    run->hypercall.ret = status.ok() ? 0 : static_cast<uint64_t>(-KVM_EPERM);
    std::printf("%s 1 page: %s\n", to_private ? "lend" : "share",
                status.ok() ? "ok" : std::string(status.message()).c_str());
  }
}

void WithGmem(int kvm) {
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(kSize));
  const gmem::Mapping host = OrDie(memory.Map());
  std::memcpy(host.data() + 0x1000, kGuestCode, sizeof(kGuestCode));
  const gmem::Window window = OrDie(gmem::Window::Create(
      OrDie(device.CreateVm({.policy = gmem::ReclaimPolicy::kDeny})), {.size = kSize}));
  OrDie(window.Map(memory, {.size = kSize, .mode = gmem::MapMode::kShare}));
  const gmem::kvm::Vm vm = OrDie(gmem::kvm::Vm::Create(kvm));
  const gmem::kvm::Memslot memslot =
      OrDie(vm.AddMemslot({.host = window.HostMemory(window.range())}));
  Run(kvm, vm.fd(), [&](gmem::GuestRange range, bool to_private) {
    return window.vm().Change(range,
                              {.mode = to_private ? gmem::MapMode::kLend : gmem::MapMode::kShare});
  });
  std::printf("gmem: the host finds %d\n", host.data()[kData.value()]);
}

void WithGuestMemfd(int kvm) {
  const auto vm = gmem::kvm::Vm::Create(kvm, gmem::kvm::kSoftwareProtectedVm);
  if (!vm.ok()) {
    std::printf("guest_memfd: this kernel has no VMs with private memory\n");
    return;
  }
  const gmem::kvm::GuestMemfd memory =
      OrDie(vm->CreateGuestMemfd(kSize, gmem::kvm::GuestMemfdKind::kPrivate));
  const gmem::UniqueFd shared(OrDie(memfd_create("shared", MFD_CLOEXEC), "memfd_create"));
  OrDie(ftruncate(shared.get(), kSize.value()), "ftruncate");
  const gmem::Mapping host = OrDie(gmem::Mapping::OfFile(shared.get(), {.size = kSize}));
  std::memcpy(host.data() + 0x1000, kGuestCode, sizeof(kGuestCode));
  gmem::kvm::Memslot memslot = OrDie(vm->AddMemslot({.host = host.span(), .guest_memfd = &memory}));
  Run(kvm, vm->fd(), [&](gmem::GuestRange range, bool to_private) {
    return to_private ? memslot.Lend(range) : memslot.Share(range);
  });
  std::printf("guest_memfd: the host finds %d\n", host.data()[kData.value()]);
}

int main() {
  const gmem::UniqueFd kvm = OrDie(gmem::kvm::OpenDevice());
  WithGmem(kvm.get());
  WithGuestMemfd(kvm.get());
}
