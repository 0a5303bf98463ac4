// SPDX-License-Identifier: MIT OR Apache-2.0
// The calls of VMs of the provider "gunyah", without gmem.ko and without Gunyah. Not installed.
#ifndef GMEM_TESTING_FAKE_GUNYAH_H_
#define GMEM_TESTING_FAKE_GUNYAH_H_

#include <linux/gmem_gunyah.h>

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "testing/system_calls.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::doubles {

// Notes what a VMM sets, on any descriptor. Create it before a FakeModule, so that it is asked
// first.
class FakeGunyah final : private SystemCalls {
 public:
  // Makes the next call of @request fail with @error.
  void FailNext(unsigned int request, int error) { failures_[request] = error; }

  const gmem_gunyah_dtb_config& device_tree() const { return device_tree_; }
  // By GMEM_GUNYAH_REG().
  const std::map<uint32_t, uint64_t>& registers() const { return registers_; }
  // The labels, in the order of the calls.
  const std::vector<uint32_t>& vcpus() const { return vcpus_; }

 private:
  std::optional<int> Ioctl(int fd, unsigned long request, void* argument) override;

  int AddVcpu(const gmem_gunyah_fn_desc& function);

  std::map<unsigned int, int> failures_;
  gmem_gunyah_dtb_config device_tree_ = {};
  std::map<uint32_t, uint64_t> registers_;
  std::vector<uint32_t> vcpus_;
};

}  // namespace gmem::doubles
#pragma GCC visibility pop

#endif  // GMEM_TESTING_FAKE_GUNYAH_H_
