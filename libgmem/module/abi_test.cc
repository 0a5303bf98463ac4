// SPDX-License-Identifier: MIT OR Apache-2.0
// The library's answers on modules of several ABIs, and on kernels with fewer abilities.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/gmem.h>
#include <linux/mempolicy.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/numa_policy.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "testing/fake_module.h"
#include "testing/matchers.h"

namespace gmem {
namespace {

using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

constexpr uint64_t kOldKernel = FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_LIVE_HUGE};
constexpr uint64_t kFirstAbi = GMEM_FEATURE_HUGEPAGE;

TEST(AbiTest, Info) {
  FakeModule module(2, GMEM_FEATURE_LIVE | GMEM_FEATURE_VIEW);
  const auto info = module.OpenDevice().Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_TRUE(info->has_live_windows);
  EXPECT_FALSE(info->has_live_huge_pages);
  EXPECT_FALSE(info->has_window_descriptors);
  EXPECT_TRUE(info->has_views);
  EXPECT_FALSE(info->has_names);
  EXPECT_EQ(info->max_bindings, 1000000U);
}

TEST(AbiTest, BestWindowsAreLiveWhereTheyTakeTheMemory) {
  {
    FakeModule module;
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.huge_pages = true})->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kPaged})->Windows(), WindowKind::kPaged);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kLive})->Windows(), WindowKind::kLive);
  }
  {
    FakeModule module(2, kOldKernel);
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kLive);
    EXPECT_EQ(device.CreateVm({.huge_pages = true})->Windows(), WindowKind::kPaged);
    EXPECT_EQ(device.CreateVm({.windows = WindowKind::kLive, .huge_pages = true})->Windows(),
              WindowKind::kLive);
  }
  {
    FakeModule module(2, GMEM_FEATURE_NAME);
    const Device device = module.OpenDevice();
    EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kPaged);
    EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}),
                FailsWith(EOPNOTSUPP, "with live windows: this host's kernel can't have them"));
  }
}

TEST(AbiTest, ProviderWithoutLiveWindows) {
  FakeModule module;
  const Device device = module.OpenDevice();
  module.FailNext(GMEM_VM_CREATE, EOPNOTSUPP);
  EXPECT_EQ(device.CreateVm()->Windows(), WindowKind::kPaged);
  module.FailNext(GMEM_VM_CREATE, EOPNOTSUPP);
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}),
              FailsWith(EOPNOTSUPP, "and live windows; this host has: window"));
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kNone}), FailsWith(EINVAL, "choose kBest"));
}

TEST(AbiTest, HugePagesInALiveWindowOfAnOldKernel) {
  FakeModule module(2, kOldKernel);
  const Device device = module.OpenDevice();
  const auto memory = device.CreateGuestMemory(MiB(2), {.huge_pages = true});
  ASSERT_THAT(memory, IsOk());
  EXPECT_THAT(device.CreateVm()->Map(*memory, {.size = MiB(2)}),
              FailsWith(EOPNOTSUPP, "create the VM with VmOptions::huge_pages"));
  EXPECT_THAT(device.CreateVm({.huge_pages = true})->Map(*memory, {.size = MiB(2)}), IsOk());
}

TEST(AbiTest, Names) {
  FakeModule module;
  const Device device = module.OpenDevice();
  const std::string longest(kMaxNameLength, '~');
  ASSERT_THAT(device.CreateVm({.name = "guest 7"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.last_vm().name), "guest 7");
  const auto memory = device.CreateGuestMemory(KiB(8), {.name = longest});
  ASSERT_THAT(memory, IsOk());
  EXPECT_EQ(reinterpret_cast<const char*>(module.last_memory().name), longest);
  ASSERT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}, {.name = "disk"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.views()[1].create.name), "disk");
  ASSERT_THAT(device.CreateVm()->OpenWindow({.size = KiB(4)}, {.name = "ram"}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module.last_window().name), "ram");

  EXPECT_THAT(device.CreateVm({.name = longest + "~"}),
              FailsWith(EINVAL, "has 32 characters: at most 31 are possible"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.name = "a\tb"}),
              FailsWith(EINVAL, "\"a\\tb\" has a character that isn't printable"));
  EXPECT_THAT(device.CreateVm({.name = std::string(1, '\0')}), FailsWith(EINVAL, "printable"));
  EXPECT_THAT(device.CreateSecretMemory(KiB(4), "\x7f"), FailsWith(EINVAL, "printable"));
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}, {.name = "\xc3\xa9"}),
              FailsWith(EINVAL, "printable"));
}

TEST(AbiTest, NumaPolicies) {
  FakeModule module;
  const Device device = module.OpenDevice();
  EXPECT_TRUE(device.Info()->has_numa_policies);
  const auto memory = device.CreateGuestMemory(
      MiB(2), {.huge_pages = true,
               .name = "ram",
               .numa = {.mode = NumaMode::kInterleave, .nodes = {0, 3, 63}}});
  ASSERT_THAT(memory, IsOk());
  EXPECT_EQ(module.last_policy().mode, uint32_t{MPOL_INTERLEAVE});
  EXPECT_EQ(module.last_policy().first_nodes, uint64_t{1} << 63 | 9);
  EXPECT_STREQ(reinterpret_cast<const char*>(module.last_memory().name), "ram");
  EXPECT_EQ(module.last_memory().flags, uint64_t{GMEM_MEM_ALLOW_HUGEPAGE});

  const GuestMemoryOptions bind = {.numa = {.mode = NumaMode::kBind, .nodes = {5}}};
  EXPECT_THAT(device.CreateGuestMemory(ByteSize(1), bind), IsOk());
  module.FailNext(GMEM_MEM_CREATE, EINVAL);
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), bind),
              FailsWith(EINVAL, "the NUMA nodes {5}: a node doesn't exist"));
  module.FailNext(GMEM_MEM_CREATE, EINVAL);
  EXPECT_THAT(device.CreateGuestMemory(ByteSize(1), bind), FailsWith(EINVAL, "size 0x1"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.numa = {.nodes = {-1}}}),
              FailsWith(EINVAL, "node -1 is out of range"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.numa = {.nodes = {4096}}}),
              FailsWith(EINVAL, "node 4096 is out of range"));

  FakeModule without(3, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_NUMA});
  EXPECT_THAT(without.OpenDevice().CreateGuestMemory(KiB(4), bind),
              FailsWith(EOPNOTSUPP, "this kernel has no NUMA"));
  FakeModule older(2, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_NUMA});
  EXPECT_THAT(older.OpenDevice().CreateGuestMemory(KiB(4), bind),
              FailsWith(EOPNOTSUPP, "the module has no NUMA policies; load a gmem.ko of ABI 3"));
  EXPECT_THAT(older.OpenDevice().CreateGuestMemory(KiB(4)), IsOk());
}

TEST(AbiTest, MemoryCgroups) {
  FakeModule module;
  const Device device = module.OpenDevice();
  EXPECT_TRUE(device.Info()->has_memory_cgroups);
  ASSERT_THAT(device.CreateGuestMemory(MiB(2), {.huge_pages = true, .cgroup_fd = 7}), IsOk());
  EXPECT_EQ(module.last_policy().cgroup_fd, 7);
  EXPECT_EQ(module.last_policy().mode, uint32_t{MPOL_DEFAULT});
  EXPECT_EQ(module.last_memory().flags, uint64_t{GMEM_MEM_ALLOW_HUGEPAGE});
  ASSERT_THAT(device.CreateGuestMemory(
                  MiB(2), {.numa = {.mode = NumaMode::kBind, .nodes = {1}}, .cgroup_fd = 0}),
              IsOk());
  EXPECT_EQ(module.last_policy().cgroup_fd, 0);
  EXPECT_EQ(module.last_policy().first_nodes, 2U);

  const GuestMemoryOptions options = {.cgroup_fd = 7};
  module.FailNext(GMEM_MEM_CREATE, EBADF);
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), options),
              FailsWith(EBADF, "cgroup_fd isn't a directory of cgroup2"));
  module.FailNext(GMEM_MEM_CREATE, EACCES);
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), options),
              FailsWith(EACCES, "may not write to its directory"));
  module.FailNext(GMEM_MEM_CREATE, EINVAL);
  EXPECT_THAT(device.CreateGuestMemory(ByteSize(1), options), FailsWith(EINVAL, "size 0x1"));

  FakeModule without(4, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_CGROUP});
  EXPECT_THAT(without.OpenDevice().CreateGuestMemory(KiB(4), options),
              FailsWith(EOPNOTSUPP, "no memory controller in its cgroup2 hierarchy"));
  for (const uint32_t abi : {1, 2, 3}) {
    FakeModule older(abi, GMEM_FEATURE_NUMA);
    EXPECT_THAT(older.OpenDevice().CreateGuestMemory(KiB(4), options),
                FailsWith(EOPNOTSUPP, "has no memory cgroups; load a gmem.ko of ABI 4"));
  }
}

TEST(AbiTest, Limits) {
  FakeModule module;
  const auto info = module.OpenDevice().Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->max_user_bindings, 4000000U);
  EXPECT_EQ(info->user_bindings, 12U);
  FakeModule older(3);
  EXPECT_EQ(older.OpenDevice().Info()->max_user_bindings, 0U);
}

TEST(AbiTest, PageRuns) {
  constexpr uint64_t kPageSize = 4096;
  FakeModule module;
  const Device device = module.OpenDevice();
  EXPECT_TRUE(device.Info()->has_page_runs);
  const auto memory = device.CreateGuestMemory(KiB(24));
  ASSERT_THAT(memory, IsOk());
  // The second and the third are one run, which two calls return.
  module.SetRuns({{.offset = 0, .length = kPageSize, .state = GMEM_STATE_HOST, .reserved = 0},
                  {.offset = kPageSize, .length = kPageSize, .state = GMEM_STATE_LENT, .reserved = 0},
                  {.offset = 2 * kPageSize,
                   .length = kPageSize,
                   .state = GMEM_STATE_LENT,
                   .reserved = 0},
                  {.offset = 3 * kPageSize,
                   .length = 3 * kPageSize,
                   .state = GMEM_STATE_ABSENT,
                   .reserved = 0}},
                 2);
  const auto runs = memory->Runs();
  ASSERT_THAT(runs, IsOk());
  const PageRun lent = {.range = {ByteOffset(kPageSize), KiB(8)}, .state = PageState::kLent};
  EXPECT_THAT(*runs, testing::ElementsAre(
                         PageRun{.range = {ByteOffset(0), KiB(4)}, .state = PageState::kHost}, lent,
                         PageRun{.range = {ByteOffset(3 * kPageSize), KiB(12)},
                                 .state = PageState::kAbsent}));
  EXPECT_EQ(module.CountCalls(GMEM_MEM_RUNS), 2);

  int visits = 0;
  EXPECT_THAT(memory->ForEachRun({ByteOffset(0), KiB(24)},
                                 [&visits](const PageRun&) { return ++visits < 2; }),
              IsOk());
  EXPECT_EQ(visits, 2);
  EXPECT_THAT(memory->Runs({ByteOffset(1), KiB(4)}), FailsWith(EINVAL, "offset 0x1"));
  EXPECT_THAT(memory->Runs({ByteOffset(0), ByteSize(0)}), FailsWith(EINVAL, "size is 0"));

  FakeModule older(3);
  EXPECT_THAT(older.OpenDevice().CreateGuestMemory(KiB(4))->Runs(),
              FailsWith(ENOTTY, "has no page runs; load a gmem.ko of ABI 4"));
}

// Entries grow with the ABI; an older module's are shorter.
TEST(AbiTest, FaultsAndBindingsOfEachAbi) {
  for (const uint32_t abi : {3, 4}) {
    FakeModule module(abi);
    const Device device = module.OpenDevice();
    const auto vm = device.CreateVm();
    const auto memory = device.CreateGuestMemory(KiB(64));
    ASSERT_THAT(vm, IsOk());
    ASSERT_THAT(memory, IsOk());
    gmem_fault_info fault = {};
    fault.reason = GMEM_FAULT_UNBOUND;
    std::vector<gmem_fault_info> faults;
    for (const uint32_t i : {1, 2, 3}) {
      fault.seq = i;
      fault.guest_addr = uint64_t{4096} * i;
      fault.pid = 100 + i;
      faults.push_back(fault);
    }
    module.SetFaults(faults);
    const auto report = vm->Faults(1);
    ASSERT_THAT(report, IsOk());
    ASSERT_EQ(report->faults.size(), 2U);
    EXPECT_EQ(report->faults[0].page, GuestAddress(8192));
    EXPECT_EQ(report->faults[1].page, GuestAddress(12288));
    EXPECT_EQ(report->faults[1].thread, abi < 4 ? 0 : 103);
    EXPECT_EQ(report->last_sequence, 3U);

    for (const uint64_t i : {0, 2}) {
      ASSERT_THAT(vm->Map(*memory, {.guest_address = GuestAddress(i * 4096), .size = KiB(4)}),
                  IsOk());
    }
    const auto bindings = vm->Query();
    ASSERT_THAT(bindings, IsOk());
    ASSERT_EQ(bindings->size(), 2U);
    EXPECT_EQ((*bindings)[1].range.start, GuestAddress(8192));
    EXPECT_EQ(vm->GuestAddressBits(), 40);
  }
}

TEST(AbiTest, WindowDescriptors) {
  FakeModule module;
  const Device device = module.OpenDevice();
  const auto vm = device.CreateVm();
  const GuestRange range = {GuestAddress(0x100000), MiB(1)};
  const auto window = vm->OpenWindow(range, {.read_only = true, .allow_discard = false});
  ASSERT_THAT(window, IsOk());
  EXPECT_EQ(window->range(), range);
  EXPECT_EQ(window->id(), module.last_window().id);
  EXPECT_EQ(module.last_window().flags, uint32_t{GMEM_WINDOW_READ_ONLY | GMEM_WINDOW_NO_DISCARD});
  ASSERT_THAT(vm->OpenWindow(range), IsOk());
  EXPECT_EQ(module.last_window().flags, 0U);

  EXPECT_THAT(vm->OpenWindow({GuestAddress(0), ByteSize(1)}), FailsWith(EINVAL, "size 0x1"));
  EXPECT_THAT(window->Map({ByteOffset(0), MiB(2)}),
              FailsWith(EINVAL, "beyond the 1 MiB of this window descriptor"));
  EXPECT_THAT(window->Discard({ByteOffset(0), MiB(2)}), FailsWith(EINVAL, "beyond the 1 MiB"));
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kPaged})->OpenWindow(range),
              FailsWith(EOPNOTSUPP, "create it with WindowKind::kLive"));
}

TEST(AbiTest, MapOptions) {
  FakeModule module;
  const Device device = module.OpenDevice();
  EXPECT_TRUE(device.Info()->has_map_options && device.Info()->has_change);
  const auto vm = device.CreateVm();
  const auto memory = device.CreateGuestMemory(KiB(64));
  ASSERT_THAT(vm->Map(*memory, {.guest_address = GuestAddress(0x10000), .size = KiB(4)}), IsOk());
  EXPECT_EQ(module.CountCalls(GMEM_VM_MAP), 0);
  ASSERT_THAT(vm->Map(*memory, {.guest_address = GuestAddress(0x20000),
                                .offset = ByteOffset(0x1000),
                                .size = KiB(8),
                                .mode = MapMode::kShare,
                                .write = false,
                                .policy = ReclaimPolicy::kDeny}),
              IsOk());
  const gmem_vm_map& map = module.last_map();
  EXPECT_EQ(map.flags, uint32_t{GMEM_MAP_FORCE_SHARE | GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_EXEC |
                                GMEM_MAP_POLICY});
  EXPECT_EQ(map.policy, uint32_t{GMEM_POLICY_DENY});
  EXPECT_EQ(map.guest_addr, 0x20000U);
  EXPECT_EQ(map.offset, 0x1000U);
  EXPECT_EQ(map.length, 0x2000U);
  EXPECT_EQ(map.mem_fd, memory->fd());
  ASSERT_THAT(vm->Map(*memory, {.guest_address = GuestAddress(0x30000),
                                .offset = ByteOffset(0x4000),
                                .size = KiB(4),
                                .join = true}),
              IsOk());
  EXPECT_EQ(module.last_map().flags,
            uint32_t{GMEM_MAP_FORCE_LEND | GMEM_MAP_ALLOW_RWX | GMEM_MAP_JOIN});
  const auto bindings = vm->Query();
  ASSERT_THAT(bindings, IsOk());
  EXPECT_FALSE((*bindings)[0].policy.has_value());
  EXPECT_EQ((*bindings)[1].policy, ReclaimPolicy::kDeny);

  FakeModule older(3, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_MAP});
  const auto old_vm = older.OpenDevice().CreateVm();
  EXPECT_THAT(old_vm->Map(*memory, {.size = KiB(4), .join = true}),
              FailsWith(ENOTTY, "load a gmem.ko of ABI 4 or later"));
}

TEST(AbiTest, Change) {
  FakeModule module;
  const Device device = module.OpenDevice();
  const auto vm = device.CreateVm();
  const auto memory = device.CreateGuestMemory(KiB(64));
  const GuestRange range = {GuestAddress(0x10000), KiB(8)};
  ASSERT_THAT(vm->Map(*memory, {.guest_address = range.start, .size = range.size}), IsOk());
  ASSERT_THAT(vm->Change(range, {.mode = MapMode::kShare}), IsOk());
  EXPECT_EQ(module.last_change().flags, uint32_t{GMEM_MAP_FORCE_SHARE});
  EXPECT_EQ((*vm->Query())[0].mode, MapMode::kShare);
  ASSERT_THAT(vm->Change(range, {.access = GuestAccess{.write = false}}), IsOk());
  EXPECT_EQ(module.last_change().flags, uint32_t{GMEM_MAP_ALLOW_READ | GMEM_MAP_ALLOW_EXEC});
  EXPECT_EQ((*vm->Query())[0].mode, MapMode::kShare);
  EXPECT_FALSE((*vm->Query())[0].write);
  ASSERT_THAT(vm->Change(range, {.mode = MapMode::kLend, .access = GuestAccess{}}), IsOk());
  EXPECT_TRUE((*vm->Query())[0].write);

  EXPECT_THAT(vm->Change(range, {}), FailsWith(EINVAL, "nothing to change: set mode or access"));
  EXPECT_THAT(vm->Change(range, {.access = GuestAccess{false, false, false}}),
              FailsWith(EINVAL, "set at least one of read, write and execute"));
  EXPECT_THAT(vm->Change({GuestAddress(1), KiB(4)}, {.mode = MapMode::kLend}),
              FailsWith(EINVAL, "guest_addr 0x1 is not a multiple"));
  EXPECT_THAT(vm->Change({GuestAddress(0), KiB(4)}, {.mode = MapMode::kLend}),
              FailsWith(ENOENT, "a part of it is unbound"));
  const struct {
    int error;
    const char* text;
    absl::StatusCode code;
  } kErrors[] = {
      {EEXIST, "another binding has a page of it", absl::StatusCode::kAlreadyExists},
      {EBUSY, "a page is pinned by other I/O, try again later; nothing was changed",
       absl::StatusCode::kUnavailable},
      {EACCES, "a descriptor that isn't open for writing", absl::StatusCode::kPermissionDenied},
      {EOPNOTSUPP, "a writable window of kind kPaged", absl::StatusCode::kUnimplemented},
      {ENOSPC, "DeviceInfo::max_bindings", absl::StatusCode::kResourceExhausted},
  };
  for (const auto& [error, text, code] : kErrors) {
    module.FailNext(GMEM_VM_CHANGE, error);
    const absl::Status status = vm->Change(range, {.mode = MapMode::kShare});
    EXPECT_THAT(status, FailsWith(error, text));
    EXPECT_EQ(status.code(), code);
  }

  FakeModule older(3, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_CHANGE});
  EXPECT_FALSE(older.OpenDevice().Info()->has_change);
  EXPECT_THAT(older.OpenDevice().CreateVm()->Change(range, {.mode = MapMode::kShare}),
              FailsWith(ENOTTY, "the module has no change in place; load a gmem.ko of ABI 4"));
}

TEST(AbiTest, Views) {
  FakeModule module;
  const auto memory = module.OpenDevice().CreateGuestMemory(KiB(64));
  ASSERT_THAT(memory, IsOk());
  const auto view = memory->CreateView({ByteOffset(0x4000), KiB(8)}, {.read_only = true});
  ASSERT_THAT(view, IsOk());
  EXPECT_EQ(view->size(), KiB(8));
  const FakeModule::View made = module.views().at(view->id());
  EXPECT_EQ(made.create.offset, 0x4000U);
  EXPECT_EQ(made.create.flags, uint32_t{GMEM_VIEW_READ_ONLY});
  EXPECT_THAT(view->Map({ByteOffset(0x2000), KiB(4)}), FailsWith(EINVAL, "beyond the 8 KiB"));

  module.SetPinned(3);
  const auto pinned = memory->RevokeView(view->id());
  ASSERT_THAT(pinned, IsOk());
  EXPECT_EQ(*pinned, 3U);
  EXPECT_THAT(memory->RevokeView(view->id()), FailsWith(ENOENT, "revoked before"));
  module.FailNext(GMEM_MEM_REVOKE, EACCES);
  EXPECT_THAT(memory->RevokeView(view->id()), FailsWith(EACCES, "is not open for writing"));

  EXPECT_THAT(memory->CreateView({ByteOffset(1), KiB(4)}), FailsWith(EINVAL, "offset 0x1"));
  module.FailNext(GMEM_MEM_VIEW, EOPNOTSUPP);
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}), FailsWith(EOPNOTSUPP, "secret memory"));
  module.FailNext(GMEM_MEM_VIEW, EACCES);
  EXPECT_THAT(memory->CreateView({ByteOffset(0), KiB(4)}), FailsWith(EACCES, "is read-only"));
}

// Everything that a module of ABI 1 lacks says so, and names the remedy.
TEST(AbiTest, FirstAbi) {
  FakeModule module(1, kFirstAbi);
  const Device device = module.OpenDevice();
  const auto info = device.Info();
  ASSERT_THAT(info, IsOk());
  EXPECT_EQ(info->abi_version, 1U);
  EXPECT_FALSE(info->has_live_windows || info->has_live_huge_pages ||
               info->has_window_descriptors || info->has_views || info->has_names);
  EXPECT_EQ(info->max_bindings, 0U);

  const auto vm = device.CreateVm();
  ASSERT_THAT(vm, IsOk());
  EXPECT_EQ(vm->Windows(), WindowKind::kPaged);
  const auto memory = device.CreateGuestMemory(KiB(4));
  ASSERT_THAT(memory, IsOk());

  const auto lacks = [](int error, const std::string& what) {
    return testing::AllOf(
        FailsWith(error, "the module has no " + what + "; load a gmem.ko of ABI 2 or later"),
        testing::ResultOf([](const auto& result) { return StatusOf(result).code(); },
                          absl::StatusCode::kUnimplemented));
  };
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kLive}), lacks(EOPNOTSUPP, "live windows"));
  EXPECT_THAT(device.CreateVm({.name = "a"}), lacks(EOPNOTSUPP, "names"));
  EXPECT_THAT(device.CreateGuestMemory(KiB(4), {.name = "a"}), lacks(EOPNOTSUPP, "names"));
  EXPECT_THAT(vm->OpenWindow({.size = KiB(4)}), lacks(ENOTTY, "window descriptors"));
  EXPECT_THAT(memory->CreateView({.size = KiB(4)}), lacks(ENOTTY, "views"));
  EXPECT_THAT(memory->RevokeView(1), lacks(ENOTTY, "views"));
}

TEST(AbiTest, Waiting) {
  FakeModule module;
  const Device device = module.OpenDevice();
  EXPECT_TRUE(device.Info()->has_waiting);
  ASSERT_THAT(device.CreateVm(), IsOk());
  EXPECT_EQ(module.last_vm().flags, GMEM_VM_LIVE);
  ASSERT_THAT(device.CreateVm({.absent = AbsentPages::kWait}), IsOk());
  EXPECT_EQ(module.last_vm().flags, GMEM_VM_LIVE | GMEM_VM_WAIT);
  const auto vm = device.CreateVm({.absent = AbsentPages::kWaitOrSignal});
  ASSERT_THAT(vm, IsOk());
  EXPECT_EQ(module.last_vm().flags, GMEM_VM_LIVE | GMEM_VM_WAIT | GMEM_VM_WAIT_SIGNALS);
  EXPECT_THAT(device.CreateVm({.windows = WindowKind::kPaged, .absent = AbsentPages::kWait}),
              FailsWith(EOPNOTSUPP, "whose accesses wait: that needs live windows"));

  std::vector<gmem_waiter_info> requests(2000);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].guest_addr = i * 4096;
    requests[i].access = GMEM_ACCESS_READ | GMEM_ACCESS_WRITE;
    requests[i].nr_threads = 3;
    requests[i].pid = 7;
  }
  module.SetRequests(requests);
  const auto first = vm->TakeRequests();
  ASSERT_THAT(first, IsOk());
  ASSERT_EQ(first->size(), 64U);
  EXPECT_EQ(first->back().page, GuestAddress(63 * 4096));
  EXPECT_TRUE(first->back().read);
  EXPECT_TRUE(first->back().write);
  EXPECT_FALSE(first->back().execute);
  EXPECT_EQ(first->back().nr_threads, 3U);
  EXPECT_EQ(first->back().thread, 7);
  EXPECT_EQ(vm->TakeRequests(1)->front().page, GuestAddress(64 * 4096));
  const auto all = vm->Requests();
  ASSERT_THAT(all, IsOk());
  ASSERT_EQ(all->size(), requests.size());
  EXPECT_EQ(all->back().page, GuestAddress(1999 * 4096));

  const GuestRange range = {GuestAddress(MiB(1).value()), KiB(8)};
  ASSERT_THAT(vm->SetAbsent(range, AbsentPages::kFail), IsOk());
  EXPECT_EQ(module.last_absent().absent, GMEM_ABSENT_FAIL);
  EXPECT_EQ(module.last_absent().guest_addr, MiB(1).value());
  EXPECT_EQ(module.last_absent().length, KiB(8).value());
  ASSERT_THAT(vm->SetAbsent(range, AbsentPages::kWait), IsOk());
  EXPECT_EQ(module.last_absent().absent, GMEM_ABSENT_WAIT);
  EXPECT_THAT(vm->SetAbsent(range, AbsentPages::kWaitOrSignal),
              FailsWith(EINVAL, "choose it for the VM"));
  EXPECT_THAT(vm->SetAbsent({.size = ByteSize(1)}, AbsentPages::kFail),
              FailsWith(EINVAL, "set the unbound pages of"));
  module.FailNext(GMEM_VM_SET_ABSENT, ENOSPC);
  EXPECT_THAT(vm->SetAbsent(range, AbsentPages::kFail), FailsWith(ENOSPC, "set the unbound pages"));
}

TEST(AbiTest, WithoutWaiting) {
  FakeModule module;
  const auto vm = module.OpenDevice().CreateVm();
  EXPECT_THAT(vm->TakeRequests(), FailsWith(EOPNOTSUPP, "create it with VmOptions::absent"));
  EXPECT_THAT(vm->Requests(), FailsWith(EOPNOTSUPP, "create it with VmOptions::absent"));
  EXPECT_THAT(vm->SetAbsent({.size = KiB(4)}, AbsentPages::kFail),
              FailsWith(EOPNOTSUPP, "create it with VmOptions::absent"));

  FakeModule without(4, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_LIVE | GMEM_FEATURE_WAIT});
  EXPECT_THAT(without.OpenDevice().CreateVm({.absent = AbsentPages::kWait}),
              FailsWith(EOPNOTSUPP, "whose accesses wait: this host's kernel has no live windows"));

  FakeModule older(3, FakeModule::kAllFeatures & ~uint64_t{GMEM_FEATURE_WAIT});
  const Device device = older.OpenDevice();
  EXPECT_FALSE(device.Info()->has_waiting);
  EXPECT_THAT(device.CreateVm({.absent = AbsentPages::kWait}),
              FailsWith(EOPNOTSUPP, "the module has no waiting; load a gmem.ko of ABI 4"));
  EXPECT_THAT(device.CreateVm()->TakeRequests(), FailsWith(ENOTTY, "load a gmem.ko of ABI 4"));
}

TEST(FaultReportTest, IsInterruption) {
  FaultReport report;
  EXPECT_FALSE(report.IsInterruption());
  report.faults.resize(2);
  report.faults[0].reason = report.faults[1].reason = FaultReason::kUnbound;
  EXPECT_FALSE(report.IsInterruption());
  // Another vCPU's access was refused meanwhile.
  report.faults[0].reason = FaultReason::kInterrupted;
  EXPECT_TRUE(report.IsInterruption());
}

}  // namespace
}  // namespace gmem
