// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/fake_gunyah.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>

namespace gmem::doubles {
namespace {

constexpr int kRunSize = 4096;

}  // namespace

int FakeGunyah::AddVcpu(const gmem_gunyah_fn_desc& function) {
  if (function.type != GMEM_GUNYAH_FN_VCPU) return -EOPNOTSUPP;
  const int fd = memfd_create("vcpu", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, kRunSize) != 0) return -errno;
  vcpus_.push_back(reinterpret_cast<const gmem_gunyah_fn_vcpu_arg*>(function.arg)->id);
  return fd;
}

std::optional<int> FakeGunyah::Ioctl(int /*fd*/, unsigned long request, void* argument) {
  const auto call = static_cast<unsigned int>(request);
  if (const auto failure = failures_.find(call); failure != failures_.end()) {
    const int error = failure->second;
    failures_.erase(failure);
    return -error;
  }
  switch (call) {
    case GMEM_GUNYAH_SET_DTB_CONFIG:
      device_tree_ = *static_cast<gmem_gunyah_dtb_config*>(argument);
      return 0;
    case GMEM_GUNYAH_SET_BOOT_CONTEXT: {
      const auto& context = *static_cast<gmem_gunyah_boot_context*>(argument);
      registers_[context.reg] = context.value;
      return 0;
    }
    case GMEM_GUNYAH_ADD_FUNCTION:
      return AddVcpu(*static_cast<gmem_gunyah_fn_desc*>(argument));
    case GMEM_GUNYAH_VCPU_MMAP_SIZE:
      return kRunSize;
    default:
      return std::nullopt;
  }
}

}  // namespace gmem::doubles
