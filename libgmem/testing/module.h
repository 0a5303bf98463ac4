// SPDX-License-Identifier: MIT OR Apache-2.0
// For tests that need /dev/gmem: they fail without it. Not installed.
#ifndef GMEM_TESTING_MODULE_H_
#define GMEM_TESTING_MODULE_H_

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/matchers.h"

namespace gmem::doubles {

constexpr ByteSize kPage = KiB(4);

// Opens the device. After each test, checks that as many VMs, guestmems, bindings and lent pages
// exist as before it.
class ModuleTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  const Device& device() const { return *device_; }
  bool HasLiveWindows() const { return device().Info()->has_live_windows; }
  Vm NewVm(const VmOptions& options = {}) const;
  GuestMemory NewMemory(ByteSize size, bool huge_pages = false) const;

 private:
  std::optional<Device> device_;
  DeviceStats before_;
};

// For tests that run with each kind of window: the parameters, their names, and the reason to skip.
inline constexpr std::array<WindowKind, 2> kWindowKinds = {WindowKind::kPaged, WindowKind::kLive};
inline constexpr char kNoLiveWindows[] = "this host has no live windows";
inline std::string WindowKindName(const testing::TestParamInfo<WindowKind>& info) {
  return info.param == WindowKind::kLive ? "Live" : "Paged";
}

// Reads the byte; nothing if that raised SIGBUS.
std::optional<uint8_t> Peek(const void* address);
// Writes the byte; false if that raised SIGBUS or SIGSEGV.
bool Poke(void* address, uint8_t value);

// Writes as the guest of a VM with the mock provider. Returns 0 or an errno; EFAULT if the access
// is refused.
int MockWrite(const Vm& vm, GuestAddress address, uint8_t value);
// Makes the mock refuse the next @times requests to take a page back.
void MockFailReclaims(const Vm& vm, uint32_t times);

}  // namespace gmem::doubles

#endif  // GMEM_TESTING_MODULE_H_
