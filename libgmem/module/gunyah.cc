// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah.h"

#include <linux/gmem_gunyah.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace gmem::gunyah {
namespace {

using internal::CheckError;
using internal::ErrnoError;

static_assert(BootRegister::X(30).number() == GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_X, 30));
static_assert(BootRegister::Pc().number() == GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_PC, 0));
static_assert(BootRegister::Sp(1).number() == GMEM_GUNYAH_REG(GMEM_GUNYAH_REG_SET_SP, 1));

absl::Status CallError(int error, absl::string_view what) {
  if (error != ENOTTY) return ErrnoError(error, what);
  return CheckError(error, absl::StrCat(what, ": the VM's provider isn't \"", kProvider,
                                        "\": set VmOptions::provider"));
}

gmem_gunyah_fn_desc VcpuFunction(const gmem_gunyah_fn_vcpu_arg& arg) {
  return {.type = GMEM_GUNYAH_FN_VCPU,
          .arg_size = sizeof(arg),
          .arg = reinterpret_cast<uintptr_t>(&arg)};
}

gmem_gunyah_vcpu_run* RunPage(const Mapping& mapping) {
  return reinterpret_cast<gmem_gunyah_vcpu_run*>(mapping.data());
}

Exit ToExit(const gmem_gunyah_vcpu_run& run) {
  switch (run.exit_reason) {
    case GMEM_GUNYAH_VCPU_EXIT_MMIO: {
      MmioExit exit = {.address = GuestAddress(run.mmio.phys_addr),
                       .size = std::min<uint32_t>(run.mmio.len, sizeof(run.mmio.data)),
                       .is_write = run.mmio.is_write != 0};
      if (exit.is_write) std::memcpy(exit.data.data(), run.mmio.data, exit.size);
      return exit;
    }
    case GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT:
      return PageFaultExit{.address = GuestAddress(run.page_fault.phys_addr),
                           .error = -run.page_fault.attempt};
    case GMEM_GUNYAH_VCPU_EXIT_STATUS:
      return EndExit{.status = static_cast<EndExit::Status>(run.status.status),
                     .type = static_cast<EndExit::Type>(run.status.exit_info.type)};
    default:
      return UnknownExit{.reason = run.exit_reason};
  }
}

absl::string_view ToString(EndExit::Type type) {
  switch (type) {
    case EndExit::Type::kVmExit:
      return "by itself";
    case EndExit::Type::kOff:
      return "off";
    case EndExit::Type::kReset:
    case EndExit::Type::kReset2:
      return "reset";
    case EndExit::Type::kWatchdog:
      return "watchdog";
    case EndExit::Type::kSoftwareError:
      return "software error";
    case EndExit::Type::kHardwareError:
      return "hardware error";
    case EndExit::Type::kStopped:
      return "stopped";
  }
  return "unknown";
}

std::string Describe(const MmioExit& exit) {
  return absl::StrCat(exit.is_write ? "write" : "read", " of ", exit.size, " bytes at ",
                      gmem::ToString(exit.address));
}

std::string Describe(const PageFaultExit& exit) {
  return absl::StrCat("memory at ", gmem::ToString(exit.address),
                      " can't be provided: ", std::strerror(exit.error));
}

std::string Describe(const EndExit& exit) {
  switch (exit.status) {
    case EndExit::Status::kNotStarted:
      return "the VM could not be started";
    case EndExit::Status::kExited:
      return absl::StrCat("the VM exited (", ToString(exit.type), ")");
    case EndExit::Status::kCrashed:
      break;
  }
  return "the VM crashed";
}

std::string Describe(const UnknownExit& exit) { return absl::StrCat("exit reason ", exit.reason); }

}  // namespace

absl::Status SetDeviceTree(const Vm& vm, GuestRange range) {
  gmem_gunyah_dtb_config config = {.guest_phys_addr = range.start.value(),
                                   .size = range.size.value()};
  if (ioctl(vm.fd(), GMEM_GUNYAH_SET_DTB_CONFIG, &config) == 0) return absl::OkStatus();
  return CallError(errno, absl::StrCat("can't set the device tree to ", ToString(range)));
}

absl::Status SetBootRegister(const Vm& vm, BootRegister target, uint64_t value) {
  gmem_gunyah_boot_context context = {.reg = target.number(), .reserved = 0, .value = value};
  if (ioctl(vm.fd(), GMEM_GUNYAH_SET_BOOT_CONTEXT, &context) == 0) return absl::OkStatus();
  return CallError(errno, absl::StrCat("can't set boot register 0x", absl::Hex(target.number())));
}

absl::Status Start(const Vm& vm) {
  if (ioctl(vm.fd(), GMEM_GUNYAH_START, 0) == 0) return absl::OkStatus();
  return CallError(errno, "can't start the VM; the kernel's log may say which step failed");
}

absl::Status RemoveVcpu(const Vm& vm, uint32_t label) {
  const gmem_gunyah_fn_vcpu_arg arg = {.id = label};
  gmem_gunyah_fn_desc function = VcpuFunction(arg);
  if (ioctl(vm.fd(), GMEM_GUNYAH_REMOVE_FUNCTION, &function) == 0) return absl::OkStatus();
  return CallError(errno, absl::StrCat("can't remove vCPU ", label));
}

std::string ToString(const Exit& exit) {
  return std::visit([](const auto& kind) { return Describe(kind); }, exit);
}

absl::StatusOr<Vcpu> Vcpu::Add(const Vm& vm, uint32_t label) {
  const gmem_gunyah_fn_vcpu_arg arg = {.id = label};
  gmem_gunyah_fn_desc function = VcpuFunction(arg);
  UniqueFd fd(ioctl(vm.fd(), GMEM_GUNYAH_ADD_FUNCTION, &function));
  if (!fd) return CallError(errno, absl::StrCat("can't add vCPU ", label));

  const int size = ioctl(fd.get(), GMEM_GUNYAH_VCPU_MMAP_SIZE, 0);
  if (size < 0) return CallError(errno, absl::StrCat("can't ask vCPU ", label, " for its page"));
  GMEM_ASSIGN_OR_RETURN(Mapping run,
                        Mapping::OfFile(fd.get(), {.size = ByteSize(static_cast<uint64_t>(size))}));
  return Vcpu(std::move(fd), std::move(run));
}

absl::StatusOr<Exit> Vcpu::Run() {
  if (ioctl(fd_.get(), GMEM_GUNYAH_VCPU_RUN, 0) == 0) return ToExit(*RunPage(run_));
  return CallError(errno, "the vCPU doesn't run");
}

absl::Status Vcpu::SetReadData(absl::Span<const uint8_t> data) {
  gmem_gunyah_vcpu_run* const run = RunPage(run_);
  if (run->exit_reason != GMEM_GUNYAH_VCPU_EXIT_MMIO || run->mmio.is_write != 0) {
    return absl::FailedPreconditionError("the vCPU doesn't wait for a read");
  }
  std::memcpy(run->mmio.data, data.data(), std::min(data.size(), sizeof(run->mmio.data)));
  return absl::OkStatus();
}

absl::Status Vcpu::SetResumeAction(uint8_t action) {
  gmem_gunyah_vcpu_run* const run = RunPage(run_);
  switch (run->exit_reason) {
    case GMEM_GUNYAH_VCPU_EXIT_MMIO:
      run->mmio.resume_action = action;
      return absl::OkStatus();
    case GMEM_GUNYAH_VCPU_EXIT_PAGE_FAULT:
      run->page_fault.resume_action = action;
      return absl::OkStatus();
    default:
      return absl::FailedPreconditionError("the vCPU doesn't wait for an access");
  }
}

absl::Status Vcpu::FailAccess() { return SetResumeAction(GMEM_GUNYAH_VCPU_RESUME_FAULT); }
absl::Status Vcpu::RetryAccess() { return SetResumeAction(GMEM_GUNYAH_VCPU_RESUME_RETRY); }

void Vcpu::RequestExit(bool request) {
  // The kernel reads this byte while other threads write it.
  std::atomic_ref<uint8_t>(RunPage(run_)->immediate_exit).store(request ? 1 : 0);
}

}  // namespace gmem::gunyah
