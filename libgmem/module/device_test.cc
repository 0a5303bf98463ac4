// SPDX-License-Identifier: MIT OR Apache-2.0
// Errors that the library finds without the module.
#include "gmem/device.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <type_traits>

#include "absl/status/status.h"
#include "gmem/guest_memory.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "gmem/window.h"

namespace gmem {
namespace {

using testing::HasSubstr;

template <typename T>
constexpr bool kMoveOnly = std::is_nothrow_move_constructible_v<T>&& std::is_move_assignable_v<T> &&
                           !std::is_copy_constructible_v<T>;
static_assert(kMoveOnly<Device> && kMoveOnly<GuestMemory> && kMoveOnly<Vm> && kMoveOnly<Window>);

UniqueFd Memfd() { return UniqueFd(memfd_create("other", MFD_CLOEXEC)); }

TEST(DeviceWithoutModuleTest, OpenWithoutModule) {
  const auto device = Device::Open("/nonexistent/gmem");
  EXPECT_EQ(device.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrno(device.status()), ENOENT);
  EXPECT_THAT(std::string(device.status().message()),
              HasSubstr("can't open /nonexistent/gmem: load the module gmem"));
}

TEST(DeviceWithoutModuleTest, OpenRefusesOtherFiles) {
  EXPECT_EQ(GetErrno(Device::Open("/tmp").status()), EISDIR);
  const auto device = Device::Open("/dev/null");
  EXPECT_EQ(GetErrno(device.status()), EINVAL) << device.status();
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("is not /dev/gmem"));
}

TEST(DeviceWithoutModuleTest, AdoptErrors) {
  EXPECT_EQ(GetErrno(Device::Adopt(UniqueFd()).status()), EBADF);
  EXPECT_EQ(GetErrno(Device::Adopt(Memfd()).status()), EINVAL);
  // /dev/ptmx is another character device, with ioctl() calls of its own.
  EXPECT_EQ(GetErrno(Device::Open("/dev/ptmx").status()), EINVAL);
}

TEST(GuestMemoryWithoutModuleTest, AdoptErrors) {
  EXPECT_EQ(GetErrno(GuestMemory::Adopt(UniqueFd()).status()), EBADF);
  const auto memory = GuestMemory::Adopt(Memfd());
  EXPECT_EQ(GetErrno(memory.status()), EINVAL);
  EXPECT_THAT(std::string(memory.status().message()), HasSubstr("is not a guestmem"));
}

TEST(GuestMemoryWithoutModuleTest, IsGuestMemory) {
  EXPECT_FALSE(GuestMemory::IsGuestMemory(-1));
  EXPECT_FALSE(GuestMemory::IsGuestMemory(Memfd().get()));
}

TEST(VmWithoutModuleTest, AdoptErrors) {
  EXPECT_EQ(GetErrno(Vm::Adopt(UniqueFd()).status()), EBADF);
  const auto vm = Vm::Adopt(Memfd());
  EXPECT_EQ(GetErrno(vm.status()), EINVAL);
  EXPECT_THAT(std::string(vm.status().message()), HasSubstr("is not a VM"));
  // An anonymous file of another kind than a VM's.
  EXPECT_EQ(GetErrno(Vm::Adopt(UniqueFd(eventfd(0, EFD_CLOEXEC))).status()), EINVAL);
}

TEST(VmWithoutModuleTest, AdoptClosesARefusedDescriptor) {
  UniqueFd fd = Memfd();
  const int raw = fd.get();
  EXPECT_FALSE(Vm::Adopt(std::move(fd)).ok());
  EXPECT_EQ(fcntl(raw, F_GETFD), -1);
}

}  // namespace
}  // namespace gmem
