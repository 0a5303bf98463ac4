// SPDX-License-Identifier: MIT OR Apache-2.0
// A real KVM guest in a kvm::Vm, which executes a test's commands. Not installed.
#ifndef GMEM_TESTING_KVM_GUEST_H_
#define GMEM_TESTING_KVM_GUEST_H_

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/kvm/memory_fault.h"
#include "gmem/kvm/memslot.h"
#include "gmem/kvm/vm.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "testing/kvm_agent.h"

namespace gmem::doubles {

// The result of a guest's access.
struct GuestAccess {
  // 0, or KVM_RUN's errno; EIO for an MMIO exit.
  int error = 0;
  uint8_t value = 0;
  std::optional<kvm::MemoryFault> fault;

  bool ok() const { return error == 0; }
};

// The guest's first page is its code, in a memslot of its own. The test fills the rest of the
// guest's first 4 GiB.
class KvmGuest {
 public:
  static constexpr uint64_t kPage = 4096;

  // With @irqchip, KVM emulates the interrupt controller, and the guest takes interrupts.
  static absl::StatusOr<std::unique_ptr<KvmGuest>> Create(uint64_t type = kvm::kDefaultVm,
                                                          bool irqchip = false) {
    auto device = kvm::OpenDevice();
    if (!device.ok()) return device.status();
    auto vm = kvm::Vm::Create(device->get(), type);
    if (!vm.ok()) return vm.status();
    auto guest = absl::WrapUnique(new KvmGuest(*std::move(vm)));
    const absl::Status status = guest->Start(*std::move(device), irqchip);
    if (!status.ok()) return status;
    return guest;
  }

  ~KvmGuest() { kvm_agent_close(&agent_); }
  KvmGuest(const KvmGuest&) = delete;
  KvmGuest& operator=(const KvmGuest&) = delete;

  const kvm::Vm& vm() const { return vm_; }

  GuestAccess Read(uint64_t address) { return Command(KVM_AGENT_READ, address, 0); }
  GuestAccess Write(uint64_t address, uint8_t value) {
    return Command(KVM_AGENT_WRITE, address, value);
  }
  // Repeats an access that failed with EFAULT.
  GuestAccess Resume() {
    GuestAccess access;
    return Finish(kvm_agent_resume(&agent_, &access.value), access);
  }

 private:
  explicit KvmGuest(kvm::Vm vm) : vm_(std::move(vm)) { agent_.kvm = agent_.vm = agent_.vcpu = -1; }

  absl::Status Start(UniqueFd device, bool irqchip) {
    void* const code =
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap");
    std::memcpy(code, kvm_agent_code, sizeof(kvm_agent_code));
    auto slot = vm_.AddMemslot({.host = {static_cast<uint8_t*>(code), kPage}});
    if (!slot.ok()) return slot.status();
    code_ = *std::move(slot);

    agent_.irqchip = irqchip;
    if (irqchip && ioctl(vm_.fd(), KVM_CREATE_IRQCHIP, 0) != 0) {
      return absl::ErrnoToStatus(errno, "KVM_CREATE_IRQCHIP");
    }
    agent_.kvm = device.release();
    agent_.vm = fcntl(vm_.fd(), F_DUPFD_CLOEXEC, 0);
    agent_.vcpu = ioctl(vm_.fd(), KVM_CREATE_VCPU, 0);
    if (agent_.vcpu < 0) return absl::ErrnoToStatus(errno, "KVM_CREATE_VCPU");
    const int error = kvm_agent_set_up_vcpu(&agent_);
    return error == 0 ? absl::OkStatus() : absl::ErrnoToStatus(-error, "the vCPU");
  }

  GuestAccess Command(enum kvm_agent_command command, uint64_t address, uint8_t value) {
    // Abandon the failed access: complete the exit if KVM requires that, then restart the agent.
    if (failed_) {
      if (agent_.exit_reason == KVM_EXIT_MMIO) kvm_agent_resume(&agent_, nullptr);
      kvm_agent_reset(&agent_);
    }
    GuestAccess access;
    const int error =
        kvm_agent_command(&agent_, command, static_cast<uint32_t>(address), value, &access.value);
    return Finish(error, access);
  }

  GuestAccess Finish(int error, GuestAccess access) {
    access.error = -error;
    access.fault = kvm::DecodeMemoryFault(*agent_.run, access.error);
    failed_ = error != 0;
    return access;
  }

  kvm::Vm vm_;
  kvm::Memslot code_;
  kvm_agent agent_ = {};
  bool failed_ = false;
};

}  // namespace gmem::doubles

#endif  // GMEM_TESTING_KVM_GUEST_H_
