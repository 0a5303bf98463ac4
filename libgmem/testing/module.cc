// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/module.h"

#include <gtest/gtest.h>
#include <linux/gmem_test.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem::doubles {
namespace {

thread_local sigjmp_buf touch_env;

void OnSignal(int) { siglongjmp(touch_env, 1); }

// Runs @touch; false if @touch raised SIGBUS or SIGSEGV. Signals skip the destructors of @touch, so
// it must not need any.
template <typename Touch>
bool Survives(Touch touch) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_NODEFER;
  struct sigaction old_bus = {};
  struct sigaction old_segv = {};
  sigaction(SIGBUS, &action, &old_bus);
  sigaction(SIGSEGV, &action, &old_segv);
  const bool survived = sigsetjmp(touch_env, 0) == 0;
  if (survived) touch();
  sigaction(SIGBUS, &old_bus, nullptr);
  sigaction(SIGSEGV, &old_segv, nullptr);
  return survived;
}

DeviceStats GetStats(const Device& device) {
  absl::StatusOr<DeviceStats> stats = device.Stats();
  EXPECT_THAT(stats, IsOk());
  return stats.ok() ? *stats : DeviceStats();
}

bool SameObjects(const DeviceStats& a, const DeviceStats& b) {
  return a.vms == b.vms && a.guest_memories == b.guest_memories && a.bindings == b.bindings &&
         a.lent_pages == b.lent_pages;
}

int MockCall(const Vm& vm, gmem_test& test) {
  test.size = sizeof(test);
  return ioctl(vm.fd(), GMEM_TEST, &test) == 0 ? 0 : errno;
}

}  // namespace

void ModuleTest::SetUp() {
  absl::StatusOr<Device> device = Device::Open();
  ASSERT_THAT(device, IsOk()) << "this test needs gmem.ko";
  device_ = *std::move(device);
  before_ = GetStats(*device_);
}

void ModuleTest::TearDown() {
  if (!device_) return;
  // Work in the background gets a second to finish.
  for (int i = 0; i < 100 && !SameObjects(before_, GetStats(*device_)); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(SameObjects(before_, GetStats(*device_))) << "the test left something behind";
}

Vm ModuleTest::NewVm(const VmOptions& options) const {
  absl::StatusOr<Vm> vm = device().CreateVm(options);
  EXPECT_THAT(vm, IsOk());
  return *std::move(vm);
}

GuestMemory ModuleTest::NewMemory(ByteSize size, bool huge_pages) const {
  absl::StatusOr<GuestMemory> memory = device().CreateGuestMemory(size, {.huge_pages = huge_pages});
  EXPECT_THAT(memory, IsOk());
  return *std::move(memory);
}

std::optional<uint8_t> Peek(const void* address) {
  volatile uint8_t value = 0;
  if (!Survives([&] { value = *static_cast<const volatile uint8_t*>(address); })) {
    return std::nullopt;
  }
  return value;
}

bool Poke(void* address, uint8_t value) {
  return Survives([&] { *static_cast<volatile uint8_t*>(address) = value; });
}

int MockWrite(const Vm& vm, GuestAddress address, uint8_t value) {
  gmem_test test = {};
  test.op = GMEM_TEST_ACCESS;
  test.guest_addr = address.value();
  test.length = 1;
  test.buffer = reinterpret_cast<uintptr_t>(&value);
  test.access = GMEM_ACCESS_WRITE;
  return MockCall(vm, test);
}

void MockFailReclaims(const Vm& vm, uint32_t times) {
  gmem_test test = {};
  test.op = GMEM_TEST_FAIL;
  test.point = GMEM_TEST_RECLAIM;
  test.nth = 1;
  test.times = times;
  EXPECT_EQ(MockCall(vm, test), 0);
}

}  // namespace gmem::doubles
