// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/status.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "testing/module.h"

namespace gmem {
namespace {

using testing::ElementsAre;
using namespace doubles;  // NOLINT(google-build-using-namespace): tests' own words

class MonitorTest : public ModuleTest {
 protected:
  static Monitor Open() {
    auto monitor = Monitor::Open();
    EXPECT_THAT(monitor, IsOk());
    return *std::move(monitor);
  }

  // Reads events until none has come for 200 ms.
  static std::vector<Event> ReadAll(Monitor& monitor) {
    std::vector<Event> result;
    pollfd poll_fd = {.fd = monitor.fd(), .events = POLLIN, .revents = 0};
    while (poll(&poll_fd, 1, 200) > 0) {
      auto events = monitor.ReadEvents();
      EXPECT_THAT(events, IsOk());
      if (!events.ok()) break;
      result.insert(result.end(), events->begin(), events->end());
    }
    return result;
  }

  static std::vector<EventType> Types(const std::vector<Event>& events) {
    std::vector<EventType> result;
    std::transform(events.begin(), events.end(), std::back_inserter(result),
                   [](const Event& event) { return event.type; });
    return result;
  }
};

TEST_F(MonitorTest, ListsAllObjects) {
  Monitor monitor = Open();
  const auto before = monitor.Vms();
  ASSERT_THAT(before, IsOk());
  const Vm vm = NewVm({.policy = ReclaimPolicy::kScrub, .guest_address_bits = 40, .name = "web-1"});
  const auto created = device().CreateGuestMemory(8 * kPage, {.name = "ram of web-1"});
  ASSERT_THAT(created, IsOk());
  const GuestMemory& memory = *created;
  ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0x10000), .size = 2 * kPage}), IsOk());
  ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0x20000),
                              .offset = ByteOffset(0x4000),
                              .size = kPage,
                              .mode = MapMode::kShare}),
              IsOk());
  ASSERT_THAT(vm.Populate({GuestAddress(0x10000), kPage}), IsOk());

  const auto vms = monitor.Vms();
  ASSERT_THAT(vms, IsOk());
  ASSERT_EQ(vms->size(), before->size() + 1);
  const VmState& state = vms->back();
  EXPECT_EQ(state.provider, "window");
  EXPECT_EQ(state.policy, ReclaimPolicy::kScrub);
  EXPECT_EQ(state.guest_address_bits, 40);
  EXPECT_EQ(state.pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(state.command, "monitor_module_");
  EXPECT_EQ(state.bindings, 2U);
  EXPECT_EQ(state.lent_pages, 1U);
  EXPECT_EQ(state.refused, 0U);
  EXPECT_EQ(state.name, "web-1");
  EXPECT_EQ(state.windows, vm.Windows());
  EXPECT_EQ(*vm.Id(), state.id);
  const auto found = monitor.FindVm(state.id);
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->lent_pages, 1U);

  const auto bindings = monitor.Bindings(state.id);
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 2U);
  EXPECT_EQ((*bindings)[0].vm_id, state.id);
  EXPECT_EQ((*bindings)[0].binding.range, (GuestRange{GuestAddress(0x10000), 2 * kPage}));
  EXPECT_EQ((*bindings)[0].binding.mode, MapMode::kLend);
  EXPECT_EQ((*bindings)[1].binding.mode, MapMode::kShare);
  EXPECT_EQ((*bindings)[1].binding.offset, ByteOffset(0x4000));
  EXPECT_EQ((*bindings)[1].binding.memory_id, memory.id());
  EXPECT_THAT(monitor.Bindings(), IsOk());

  const auto memories = monitor.GuestMemories();
  ASSERT_THAT(memories, IsOk());
  ASSERT_FALSE(memories->empty());
  EXPECT_EQ(memories->back().id, memory.id());
  const auto one = monitor.FindGuestMemory(memory.id());
  ASSERT_THAT(one, IsOk());
  EXPECT_EQ(one->size, 8 * kPage);
  EXPECT_EQ(one->page_size, kPage);
  EXPECT_EQ(one->name, "ram of web-1");
  EXPECT_EQ(one->pages, (PageCounts{.absent = 7, .lent = 1}));

  const auto stats = monitor.Stats();
  ASSERT_THAT(stats, IsOk());
  EXPECT_EQ(stats->vms, vms->size());
  EXPECT_EQ(stats->lent_pages, device().Stats()->lent_pages);
}

TEST_F(MonitorTest, ListsKindsOfWindows) {
  Monitor monitor = Open();
  const Vm paged = NewVm({.windows = WindowKind::kPaged});
  EXPECT_EQ(monitor.FindVm(*paged.Id())->windows, WindowKind::kPaged);
  EXPECT_EQ(monitor.FindVm(*paged.Id())->name, "");
  if (device().Info()->has_live_windows) {
    const Vm live = NewVm({.windows = WindowKind::kLive});
    EXPECT_EQ(monitor.FindVm(*live.Id())->windows, WindowKind::kLive);
  }
  const Vm mock = NewVm({.provider = "mock"});
  EXPECT_EQ(monitor.FindVm(*mock.Id())->windows, WindowKind::kNone);
}

TEST_F(MonitorTest, ListsWindowDescriptors) {
  if (!device().Info()->has_window_descriptors) GTEST_SKIP() << "no window descriptors here";
  Monitor monitor = Open();
  const Vm vm = NewVm({.windows = WindowKind::kLive});
  const GuestRange range = {GuestAddress(0x40000), 4 * kPage};
  const auto window = vm.OpenWindow(range, {.name = "for the VMM"});
  ASSERT_THAT(window, IsOk());
  const auto read_only = vm.OpenWindow(range, {.read_only = true});
  ASSERT_THAT(read_only, IsOk());

  const auto windows = monitor.Windows();
  ASSERT_THAT(windows, IsOk());
  ASSERT_EQ(windows->size(), 2U);
  const WindowState& state = windows->front();
  EXPECT_EQ(state.id, window->id());
  EXPECT_EQ(state.vm_id, *vm.Id());
  EXPECT_EQ(state.range, range);
  EXPECT_FALSE(state.read_only);
  EXPECT_TRUE(state.allow_discard);
  EXPECT_EQ(state.name, "for the VMM");
  EXPECT_EQ(state.pid, static_cast<uint32_t>(getpid()));
  const auto found = monitor.FindWindow(static_cast<uint32_t>(read_only->id()));
  ASSERT_THAT(found, IsOk());
  EXPECT_TRUE(found->read_only);
  EXPECT_FALSE(found->allow_discard);
  EXPECT_EQ(found->name, "");
}

TEST_F(MonitorTest, ListsViews) {
  Monitor monitor = Open();
  const GuestMemory memory = NewMemory(8 * kPage);
  const ByteRange range = {ByteOffset(kPage.value()), 2 * kPage};
  const auto view = memory.CreateView(range, {.read_only = true, .name = "disk"});
  ASSERT_THAT(view, IsOk());
  const auto views = monitor.Views();
  ASSERT_THAT(views, IsOk());
  ASSERT_EQ(views->size(), 1U);
  const ViewState& state = views->front();
  EXPECT_EQ(state.id, view->id());
  EXPECT_EQ(state.memory_id, memory.id());
  EXPECT_EQ(state.range, range);
  EXPECT_TRUE(state.read_only);
  EXPECT_FALSE(state.revoked);
  EXPECT_EQ(state.name, "disk");
  EXPECT_EQ(state.pid, static_cast<uint32_t>(getpid()));
  ASSERT_THAT(memory.RevokeView(view->id()), IsOk());
  const auto found = monitor.FindView(state.id);
  ASSERT_THAT(found, IsOk());
  EXPECT_TRUE(found->revoked);
}

TEST_F(MonitorTest, ListsRefusedAccesses) {
  Monitor monitor = Open();
  const Vm vm = NewVm();
  const uint32_t id = *vm.Id();
  EXPECT_THAT(*monitor.Faults(id), testing::IsEmpty());
  {
    auto window = Window::Create(vm, {GuestAddress(0x40000), 2 * kPage});
    ASSERT_THAT(window, IsOk());
    EXPECT_FALSE(Peek(window->data()).has_value());
    EXPECT_FALSE(Peek(window->data() + kPage.value()).has_value());
  }
  const auto faults = monitor.Faults(id);
  ASSERT_THAT(faults, IsOk());
  // The monitor took none from the owner.
  const auto own = vm.Faults();
  ASSERT_THAT(own, IsOk());
  ASSERT_EQ(faults->size(), own->faults.size());
  ASSERT_EQ(faults->size(), 2U);
  const VmFault& last = faults->back();
  EXPECT_EQ(last.vm_id, id);
  EXPECT_EQ(last.fault.sequence, own->last_sequence);
  EXPECT_EQ(last.fault.page, GuestAddress(0x40000) + kPage);
  EXPECT_EQ(last.fault.reason, FaultReason::kUnbound);
  EXPECT_TRUE(last.fault.read);
  EXPECT_FALSE(last.fault.write);
  EXPECT_EQ(last.fault.count, own->faults.back().count);
  EXPECT_EQ(last.fault.thread, own->faults.back().thread);
  const auto all = monitor.Faults();
  ASSERT_THAT(all, IsOk());
  EXPECT_EQ(all->size(), 2U);
  EXPECT_THAT(monitor.Faults(123456), FailsWith(ENOENT, "VM 123456"));
}

TEST_F(MonitorTest, ListsDetailsOfTheProvider) {
  Monitor monitor = Open();
  const Vm window = NewVm();
  EXPECT_THAT(monitor.FindVm(*window.Id())->details, ElementsAre());
  const GuestMemory memory = NewMemory(2 * kPage);
  const Vm vm = NewVm({.provider = "mock"});
  ASSERT_THAT(vm.Map(memory, {.size = memory.size()}), IsOk());
  ASSERT_THAT(vm.Populate({GuestAddress(0), memory.size()}), IsOk());
  EXPECT_THAT(monitor.FindVm(*vm.Id())->details, ElementsAre(VmDetail{"pages", 2}));
}

TEST_F(MonitorTest, UnknownNumbersAreNotFound) {
  Monitor monitor = Open();
  EXPECT_THAT(monitor.FindVm(123456), FailsWith(ENOENT, "describe VM 123456: no such VM"));
  EXPECT_THAT(monitor.Bindings(123456), FailsWith(ENOENT, "VM 123456"));
  EXPECT_THAT(monitor.FindGuestMemory(~uint64_t{0}), FailsWith(ENOENT, "no such guestmem"));
  EXPECT_THAT(monitor.FindWindow(123456), FailsWith(ENOENT, "no such window descriptor"));
  EXPECT_THAT(monitor.FindView(123456), FailsWith(ENOENT, "no such view"));
  // 0 is no object's number.
  EXPECT_FALSE(monitor.FindVm(0).ok());
  // The socket still works.
  EXPECT_THAT(monitor.Vms(), IsOk());
}

TEST_F(MonitorTest, ManyObjectsInAnAnswer) {
  Monitor monitor = Open();
  const GuestMemory memory = NewMemory(2000 * kPage);
  const Vm vm = NewVm();
  for (uint64_t i = 0; i < 2000; ++i) {
    ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(i * 0x2000),
                                .offset = ByteOffset(i * kPage.value()),
                                .size = kPage}),
                IsOk());
  }
  const auto bindings = monitor.Bindings();
  ASSERT_THAT(bindings, IsOk());
  ASSERT_EQ(bindings->size(), 2000U);
  for (uint64_t i = 0; i < 2000; ++i) {
    ASSERT_EQ((*bindings)[i].binding.range.start, GuestAddress(i * 0x2000));
  }
}

TEST_F(MonitorTest, ListsDuringChangesAreConsistent) {
  Monitor monitor = Open();
  const GuestMemory memory = NewMemory(1000 * kPage);
  const Vm vm = NewVm();
  for (uint64_t i = 0; i < 1000; ++i) {
    ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(i * 0x2000),
                                .offset = ByteOffset(i * kPage.value()),
                                .size = kPage}),
                IsOk());
  }
  std::atomic<bool> stop = false;
  std::thread changer([&] {
    const GuestMemory other = NewMemory(kPage);
    while (!stop) {
      EXPECT_THAT(vm.Map(other, {.guest_address = GuestAddress(uint64_t{1} << 40), .size = kPage}),
                  IsOk());
      EXPECT_THAT(vm.Unmap({GuestAddress(uint64_t{1} << 40), kPage}), IsOk());
    }
  });
  for (int i = 0; i < 20; ++i) {
    const auto bindings = monitor.Bindings();
    // If the call succeeds, the list is complete.
    if (bindings.ok()) {
      EXPECT_GE(bindings->size(), 1000U);
      EXPECT_LE(bindings->size(), 1001U);
    } else {
      EXPECT_THAT(bindings, FailsWith(EAGAIN, "changed during each of 20 tries"));
    }
  }
  stop = true;
  changer.join();
  const auto bindings = monitor.Bindings();
  ASSERT_THAT(bindings, IsOk());
  EXPECT_EQ(bindings->size(), 1000U);
}

TEST_F(MonitorTest, Events) {
  Monitor monitor = Open();
  EXPECT_EQ(monitor.fd(), -1);
  EXPECT_EQ(monitor.ReadEvents().status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_THAT(monitor.Subscribe(), IsOk());
  EXPECT_EQ(monitor.Subscribe().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_GE(monitor.fd(), 0);
  auto nothing = monitor.ReadEvents();
  ASSERT_THAT(nothing, IsOk());
  EXPECT_TRUE(nothing->empty());

  const GuestMemory memory = NewMemory(8 * kPage);
  {
    const Vm vm = NewVm();
    ASSERT_THAT(vm.Map(memory, {.guest_address = GuestAddress(0x10000), .size = 2 * kPage}),
                IsOk());
    ASSERT_THAT(vm.Populate({GuestAddress(0x10000), 2 * kPage}), IsOk());
    ASSERT_THAT(vm.Reclaim({GuestAddress(0x10000), kPage}), IsOk());
    auto window = Window::Create(vm, {GuestAddress(0x40000), kPage});
    ASSERT_THAT(window, IsOk());
    EXPECT_FALSE(Peek(window->data()).has_value());
  }
  const std::vector<Event> events = ReadAll(monitor);
  EXPECT_THAT(Types(events), testing::ElementsAre(
                                 EventType::kMemoryCreated, EventType::kVmCreated, EventType::kMap,
                                 EventType::kLend, EventType::kReclaim, EventType::kRefused,
                                 EventType::kReclaim, EventType::kUnmap, EventType::kVmDestroyed));
  ASSERT_EQ(events.size(), 9U);
  EXPECT_EQ(events[0].memory_id, memory.id());
  const Event& map = events[2];
  EXPECT_EQ(map.vm_id, events[1].vm_id);
  EXPECT_EQ(map.guest_address, GuestAddress(0x10000));
  EXPECT_EQ(map.offset, ByteOffset(0));
  EXPECT_EQ(map.size, 2 * kPage);
  EXPECT_EQ(map.access->mode, MapMode::kLend);
  EXPECT_TRUE(map.access->write);
  EXPECT_EQ(events[3].size, 2 * kPage);
  EXPECT_EQ(events[4].cause, ReclaimCause::kHost);
  EXPECT_EQ(events[4].size, kPage);
  EXPECT_EQ(events[5].reason, FaultReason::kUnbound);
  EXPECT_TRUE(events[5].access->read);
  EXPECT_EQ(events[6].cause, ReclaimCause::kTeardown);
  for (size_t i = 1; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence, events[i - 1].sequence + 1);
  }
}

TEST_F(MonitorTest, EventsOfNamedObjects) {
  Monitor monitor = Open();
  ASSERT_THAT(monitor.Subscribe(), IsOk());
  // The kernel may have kept events of an earlier test.
  ReadAll(monitor);
  uint64_t view_id = 0;
  {
    const Vm vm = NewVm({.name = "web-1"});
    const auto memory = device().CreateGuestMemory(8 * kPage, {.name = "ram"});
    ASSERT_THAT(memory, IsOk());
    const auto view = memory->CreateView({ByteOffset(0), kPage}, {.name = "disk"});
    ASSERT_THAT(view, IsOk());
    view_id = view->id();
    ASSERT_THAT(memory->RevokeView(view_id), IsOk());
  }
  const std::vector<Event> events = ReadAll(monitor);
  EXPECT_THAT(Types(events),
              ElementsAre(EventType::kVmCreated, EventType::kMemoryCreated, EventType::kViewCreated,
                          EventType::kViewRevoked, EventType::kViewDestroyed,
                          EventType::kMemoryDestroyed, EventType::kVmDestroyed));
  ASSERT_EQ(events.size(), 7U);
  EXPECT_EQ(events[0].name, "web-1");
  EXPECT_EQ(events[1].name, "ram");
  EXPECT_EQ(events[2].name, "disk");
  EXPECT_EQ(events[2].memory_id, events[1].memory_id);
  EXPECT_EQ(events[2].size, kPage);
  for (size_t i = 2; i < 5; ++i) EXPECT_EQ(events[i].view_id, view_id);
  for (size_t i = 3; i < 7; ++i) EXPECT_EQ(events[i].name, "");
}

TEST_F(MonitorTest, FullSocketIsReported) {
  Monitor monitor = Open();
  // The kernel gives no smaller buffer.
  ASSERT_THAT(monitor.Subscribe(KiB(1)), IsOk());
  const GuestMemory memory = NewMemory(kPage);
  const Vm vm = NewVm();
  // The module sends pending events every 10 ms, so each pair is in a message of its own.
  for (int i = 0; i < 600; ++i) {
    ASSERT_THAT(vm.Map(memory, {.size = kPage}), IsOk());
    ASSERT_THAT(vm.Unmap({GuestAddress(0), kPage}), IsOk());
    if (i % 50 == 0) usleep(20000);
  }
  std::vector<Event> events = ReadAll(monitor);
  EXPECT_THAT(Types(events), testing::Contains(EventType::kGap));
  // The next message shows how many are lost.
  ASSERT_THAT(vm.Map(memory, {.size = kPage}), IsOk());
  const std::vector<Event> more = ReadAll(monitor);
  events.insert(events.end(), more.begin(), more.end());
  uint64_t lost = 0;
  uint64_t expected = 0;
  for (const Event& event : events) {
    if (event.type == EventType::kGap) {
      lost += event.lost;
      expected += event.lost;
      continue;
    }
    if (expected != 0) {
      EXPECT_EQ(event.sequence, expected);
    }
    expected = event.sequence + 1;
  }
  EXPECT_GT(lost, 0U);
}

// Not a MonitorTest, because that fixture keeps the device open.
TEST(MonitorReloadTest, SaysThatTheModuleWasUnloaded) {
  // selftests/runner/run puts the module there.
  const UniqueFd file(open("/modules/gmem.ko", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  auto monitor = Monitor::Open();
  ASSERT_THAT(monitor, IsOk());
  ASSERT_THAT(monitor->Subscribe(), IsOk());
  // The VM ends with its last descriptor, before the module has sent the events.
  { const auto vm = Device::Open()->CreateVm({}); }
  int error = EAGAIN;
  for (int i = 0; i < 1000 && error != 0; ++i) {
    error = syscall(SYS_delete_module, "gmem", O_NONBLOCK) == 0 ? 0 : errno;
    if (error != 0) usleep(1000);
  }
  ASSERT_EQ(error, 0);
  ASSERT_EQ(syscall(SYS_finit_module, file.get(), "", 0), 0);

  pollfd poll_fd = {.fd = monitor->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&poll_fd, 1, 1000), 1);
  // Events from before the unload aren't lost.
  const auto events = monitor->ReadEvents();
  ASSERT_THAT(events, IsOk());
  ASSERT_FALSE(events->empty());
  EXPECT_EQ(events->front().type, EventType::kVmCreated);
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(monitor->ReadEvents(), FailsWith(ESHUTDOWN, "Open() a new Monitor"));
  }
  auto anew = Monitor::Open();
  ASSERT_THAT(anew, IsOk());
  ASSERT_THAT(anew->Subscribe(), IsOk());
  EXPECT_THAT(anew->Stats(), IsOk());
}

TEST_F(MonitorTest, NeedsRights) {
  const pid_t child = fork();
  if (child == 0) {
    // _exit(): the child must not tear down the parent's fixture.
    if (setuid(65534) != 0) _exit(2);
    auto monitor = Monitor::Open();
    if (!monitor.ok()) _exit(3);
    if (GetErrno(monitor->Vms().status()) != EPERM) _exit(4);
    if (GetErrno(monitor->Stats().status()) != EPERM) _exit(5);
    _exit(GetErrno(monitor->Subscribe()) == EPERM ? 0 : 6);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "exit status " << WEXITSTATUS(status);
}

TEST_F(MonitorTest, NotInAnotherNetwork) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNET) != 0) _exit(2);
    _exit(GetErrno(Monitor::Open().status()) == ENOENT ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "exit status " << WEXITSTATUS(status);
}

}  // namespace
}  // namespace gmem
