// SPDX-License-Identifier: MIT OR Apache-2.0
#include "monitor/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/gmem.h>
#include <linux/gmem_netlink.h>
#include <linux/netlink.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmem/monitor.h"
#include "gmem/status.h"
#include "gmem/types.h"

namespace gmem::internal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint16_t kFamily = 40;

// A datagram under construction. Its memory is exactly as long as the datagram, so that ASan
// detects a read beyond the end.
class Message {
 public:
  explicit Message(uint8_t command, uint16_t type = kFamily) : buffer_(4096) {
    header()->nlmsg_len = 0;
    mnl_nlmsg_put_header(buffer_.data());
    header()->nlmsg_type = type;
    auto* const generic =
        static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(header(), sizeof(genlmsghdr)));
    generic->cmd = command;
  }

  Message& U16(uint16_t type, uint16_t value) {
    mnl_attr_put_u16(header(), type, value);
    return *this;
  }
  Message& U32(uint16_t type, uint32_t value) {
    mnl_attr_put_u32(header(), type, value);
    return *this;
  }
  Message& U64(uint16_t type, uint64_t value) {
    mnl_attr_put_u64(header(), type, value);
    return *this;
  }
  Message& String(uint16_t type, const char* value) {
    mnl_attr_put_strz(header(), type, value);
    return *this;
  }
  Message& Detail(const char* name, uint64_t value) {
    nlattr* const nest = mnl_attr_nest_start(header(), GMEM_A_VM_DETAIL);
    String(GMEM_A_DETAIL_NAME, name).U64(GMEM_A_DETAIL_VALUE, value);
    mnl_attr_nest_end(header(), nest);
    return *this;
  }
  Message& Bytes(uint16_t type, const std::string& value) {
    mnl_attr_put(header(), type, value.size(), value.data());
    return *this;
  }

  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }
  std::vector<uint8_t> bytes() { return {buffer_.begin(), buffer_.begin() + header()->nlmsg_len}; }

 private:
  std::vector<uint8_t> buffer_;
};

const nlmsghdr& AsMessage(const std::vector<uint8_t>& bytes) {
  return *reinterpret_cast<const nlmsghdr*>(bytes.data());
}

Message VmMessage() {
  Message message(GMEM_CMD_VM_GET);
  message.U32(GMEM_A_VM_ID, 3)
      .String(GMEM_A_VM_PROVIDER, "window")
      .U32(GMEM_A_VM_POLICY, GMEM_POLICY_SCRUB)
      .U32(GMEM_A_VM_GUEST_ADDR_BITS, 52)
      .U32(GMEM_A_VM_PID, 1204)
      .String(GMEM_A_VM_COMM, "qemu")
      .U64(GMEM_A_VM_BINDINGS, 7)
      .U64(GMEM_A_VM_LENT_PAGES, uint64_t{1} << 40)
      .U64(GMEM_A_VM_REFUSED, 9)
      .Detail("vmid", 128)
      .Detail("parcels", 2)
      .String(GMEM_A_VM_NAME, "web-001")
      .U32(GMEM_A_VM_WINDOW_KIND, GMEM_WINDOW_KIND_LIVE);
  return message;
}

Message BindingMessage(uint64_t guest_addr, uint64_t length) {
  Message message(GMEM_CMD_BINDING_GET);
  message.U32(GMEM_A_BINDING_VM_ID, 3)
      .U64(GMEM_A_BINDING_MEM_ID, 12)
      .U64(GMEM_A_BINDING_GUEST_ADDR, guest_addr)
      .U64(GMEM_A_BINDING_OFFSET, 0x2000)
      .U64(GMEM_A_BINDING_LENGTH, length)
      .U32(GMEM_A_BINDING_FLAGS, GMEM_MAP_FORCE_SHARE | GMEM_MAP_ALLOW_READ);
  return message;
}

Message MemoryMessage() {
  Message message(GMEM_CMD_MEM_GET);
  message.U64(GMEM_A_MEM_ID, 12)
      .U64(GMEM_A_MEM_SIZE, uint64_t{15} * 4096)
      .U64(GMEM_A_MEM_PAGE_SIZE, 4096)
      .U64(GMEM_A_MEM_ABSENT, 1)
      .U64(GMEM_A_MEM_HOST, 2)
      .U64(GMEM_A_MEM_LENT, 3)
      .U64(GMEM_A_MEM_SHARED, 4)
      .U64(GMEM_A_MEM_LEAKED, 5)
      .String(GMEM_A_MEM_NAME, "ram of web-1");
  return message;
}

Message WindowMessage(uint32_t flags) {
  Message message(GMEM_CMD_WINDOW_GET);
  message.U32(GMEM_A_WINDOW_ID, 5)
      .U32(GMEM_A_WINDOW_VM_ID, 3)
      .U64(GMEM_A_WINDOW_GUEST_ADDR, 0x40000000)
      .U64(GMEM_A_WINDOW_LENGTH, MiB(64).value())
      .U32(GMEM_A_WINDOW_FLAGS, flags)
      .String(GMEM_A_WINDOW_NAME, "ram of web-1")
      .U32(GMEM_A_WINDOW_PID, 1204);
  return message;
}

Message ViewMessage(uint64_t offset) {
  Message message(GMEM_CMD_VIEW_GET);
  message.U32(GMEM_A_VIEW_ID, 7)
      .U64(GMEM_A_VIEW_MEM_ID, 12)
      .U64(GMEM_A_VIEW_OFFSET, offset)
      .U64(GMEM_A_VIEW_LENGTH, 0x3000)
      .U32(GMEM_A_VIEW_FLAGS, GMEM_VIEW_READ_ONLY)
      .String(GMEM_A_VIEW_NAME, "")
      .U32(GMEM_A_VIEW_PID, 1204);
  return message;
}

Message StatsMessage() {
  Message message(GMEM_CMD_STATS_GET);
  for (uint16_t type = GMEM_A_STATS_VMS; type <= GMEM_A_STATS_REFUSED; ++type) {
    message.U64(type, 100U + type);
  }
  return message;
}

Message RefusedMessage() {
  Message message(GMEM_CMD_EVENT);
  message.U64(GMEM_A_EVENT_SEQ, 77)
      .U32(GMEM_A_EVENT_TYPE, GMEM_EVENT_REFUSED)
      .U32(GMEM_A_EVENT_VM_ID, 3)
      .U64(GMEM_A_EVENT_GUEST_ADDR, 0x5000)
      .U64(GMEM_A_EVENT_LENGTH, 0x1000)
      .U32(GMEM_A_EVENT_ACCESS, GMEM_ACCESS_WRITE)
      .U32(GMEM_A_EVENT_REASON, GMEM_FAULT_PINNED)
      .U64(GMEM_A_EVENT_COUNT, 6);
  return message;
}

TEST(MonitorMessageTest, Vm) {
  const auto vm = ParseVm(AsMessage(VmMessage().bytes()));
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->id, 3U);
  EXPECT_EQ(vm->provider, "window");
  EXPECT_EQ(vm->policy, ReclaimPolicy::kScrub);
  EXPECT_EQ(vm->guest_address_bits, 52);
  EXPECT_EQ(vm->pid, 1204U);
  EXPECT_EQ(vm->command, "qemu");
  EXPECT_EQ(vm->bindings, 7U);
  EXPECT_EQ(vm->lent_pages, uint64_t{1} << 40);
  EXPECT_EQ(vm->refused, 9U);
  EXPECT_THAT(vm->details, ElementsAre(VmDetail{"vmid", 128}, VmDetail{"parcels", 2}));
  EXPECT_EQ(vm->name, "web-001");
  EXPECT_EQ(vm->windows, WindowKind::kLive);
}

// Modules of ABI 1 have neither names nor kinds of windows.
TEST(MonitorMessageTest, OlderModule) {
  Message vm_message(GMEM_CMD_VM_GET);
  vm_message.U32(GMEM_A_VM_ID, 3)
      .String(GMEM_A_VM_PROVIDER, "window")
      .U32(GMEM_A_VM_POLICY, GMEM_POLICY_SCRUB)
      .U32(GMEM_A_VM_GUEST_ADDR_BITS, 52)
      .U32(GMEM_A_VM_PID, 1204)
      .String(GMEM_A_VM_COMM, "qemu")
      .U64(GMEM_A_VM_BINDINGS, 7)
      .U64(GMEM_A_VM_LENT_PAGES, 8)
      .U64(GMEM_A_VM_REFUSED, 9);
  const auto vm = ParseVm(AsMessage(vm_message.bytes()));
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->name, "");
  EXPECT_FALSE(vm->windows.has_value());
  Message memory_message(GMEM_CMD_MEM_GET);
  for (uint16_t type = GMEM_A_MEM_ID; type <= GMEM_A_MEM_LEAKED; ++type) {
    memory_message.U64(type, 1);
  }
  const auto memory = ParseGuestMemory(AsMessage(memory_message.bytes()));
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->name, "");
}

TEST(MonitorMessageTest, KindsOfWindows) {
  const std::vector<std::pair<uint32_t, std::optional<WindowKind>>> kinds = {
      {GMEM_WINDOW_KIND_NONE, WindowKind::kNone},
      {GMEM_WINDOW_KIND_PAGED, WindowKind::kPaged},
      {GMEM_WINDOW_KIND_LIVE, WindowKind::kLive},
      // A newer module has another one.
      {4711, std::nullopt}};
  for (const auto& [number, kind] : kinds) {
    Message message = VmMessage();
    message.U32(GMEM_A_VM_WINDOW_KIND, number);
    const auto vm = ParseVm(AsMessage(message.bytes()));
    ASSERT_TRUE(vm.ok()) << vm.status();
    EXPECT_EQ(vm->windows, kind);
  }
}

TEST(MonitorMessageTest, Binding) {
  const auto binding = ParseBinding(AsMessage(BindingMessage(0x40000000, 0x3000).bytes()));
  ASSERT_TRUE(binding.ok()) << binding.status();
  EXPECT_EQ(binding->vm_id, 3U);
  EXPECT_EQ(binding->binding.memory_id, 12U);
  EXPECT_EQ(binding->binding.range, (GuestRange{GuestAddress(0x40000000), ByteSize(0x3000)}));
  EXPECT_EQ(binding->binding.offset, ByteOffset(0x2000));
  EXPECT_EQ(binding->binding.mode, MapMode::kShare);
  EXPECT_TRUE(binding->binding.read);
  EXPECT_FALSE(binding->binding.write);
  EXPECT_FALSE(binding->binding.execute);
  EXPECT_FALSE(binding->binding.policy.has_value());

  Message message = BindingMessage(0x40000000, 0x3000);
  message.U32(GMEM_A_BINDING_POLICY, GMEM_POLICY_DENY);
  const auto with_policy = ParseBinding(AsMessage(message.bytes()));
  ASSERT_TRUE(with_policy.ok()) << with_policy.status();
  EXPECT_EQ(with_policy->binding.policy, ReclaimPolicy::kDeny);
}

TEST(MonitorMessageTest, BindingThatWraps) {
  const auto binding = ParseBinding(AsMessage(BindingMessage(~uint64_t{0}, 0x3000).bytes()));
  EXPECT_EQ(binding.status().code(), absl::StatusCode::kDataLoss);
}

TEST(MonitorMessageTest, GuestMemory) {
  const auto memory = ParseGuestMemory(AsMessage(MemoryMessage().bytes()));
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_EQ(memory->id, 12U);
  EXPECT_EQ(memory->size, KiB(60));
  EXPECT_EQ(memory->page_size, KiB(4));
  EXPECT_EQ(memory->pages,
            (PageCounts{.absent = 1, .host = 2, .lent = 3, .shared = 4, .leaked = 5}));
  EXPECT_EQ(memory->name, "ram of web-1");
}

TEST(MonitorMessageTest, Window) {
  const auto window = ParseWindow(AsMessage(WindowMessage(0).bytes()));
  ASSERT_TRUE(window.ok()) << window.status();
  EXPECT_EQ(window->id, 5U);
  EXPECT_EQ(window->vm_id, 3U);
  EXPECT_EQ(window->range, (GuestRange{GuestAddress(0x40000000), MiB(64)}));
  EXPECT_FALSE(window->read_only);
  EXPECT_TRUE(window->allow_discard);
  EXPECT_EQ(window->name, "ram of web-1");
  EXPECT_EQ(window->pid, 1204U);
  const auto read_only = ParseWindow(AsMessage(WindowMessage(GMEM_WINDOW_READ_ONLY).bytes()));
  ASSERT_TRUE(read_only.ok()) << read_only.status();
  EXPECT_TRUE(read_only->read_only);
  EXPECT_FALSE(read_only->allow_discard);
  const auto no_discard = ParseWindow(AsMessage(WindowMessage(GMEM_WINDOW_NO_DISCARD).bytes()));
  ASSERT_TRUE(no_discard.ok()) << no_discard.status();
  EXPECT_FALSE(no_discard->read_only);
  EXPECT_FALSE(no_discard->allow_discard);
}

TEST(MonitorMessageTest, View) {
  const auto view = ParseView(AsMessage(ViewMessage(0x2000).bytes()));
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->id, 7U);
  EXPECT_EQ(view->memory_id, 12U);
  EXPECT_EQ(view->range, (ByteRange{ByteOffset(0x2000), ByteSize(0x3000)}));
  EXPECT_TRUE(view->read_only);
  EXPECT_FALSE(view->revoked);
  EXPECT_EQ(view->name, "");
  EXPECT_EQ(view->pid, 1204U);
  Message revoked = ViewMessage(0x2000);
  revoked.Bytes(GMEM_A_VIEW_REVOKED, "");
  EXPECT_TRUE(ParseView(AsMessage(revoked.bytes()))->revoked);
}

TEST(MonitorMessageTest, RangesThatWrap) {
  EXPECT_EQ(GetErrno(ParseView(AsMessage(ViewMessage(~uint64_t{0}).bytes())).status()), EBADMSG);
  Message window = WindowMessage(0);
  window.U64(GMEM_A_WINDOW_GUEST_ADDR, ~uint64_t{0});
  EXPECT_EQ(GetErrno(ParseWindow(AsMessage(window.bytes())).status()), EBADMSG);
}

TEST(MonitorMessageTest, Stats) {
  const auto stats = ParseStats(AsMessage(StatsMessage().bytes()));
  ASSERT_TRUE(stats.ok()) << stats.status();
  EXPECT_EQ(stats->vms, 101U);
  EXPECT_EQ(stats->guest_memories, 102U);
  EXPECT_EQ(stats->refused, 108U);
}

TEST(MonitorMessageTest, RefusedAccess) {
  const auto event = ParseEvent(AsMessage(RefusedMessage().bytes()));
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->sequence, 77U);
  EXPECT_EQ(event->type, EventType::kRefused);
  EXPECT_EQ(event->vm_id, 3U);
  EXPECT_FALSE(event->memory_id.has_value());
  EXPECT_EQ(event->guest_address, GuestAddress(0x5000));
  EXPECT_TRUE(event->access->write);
  EXPECT_FALSE(event->access->read);
  EXPECT_EQ(event->reason, FaultReason::kPinned);
  EXPECT_EQ(event->count, 6U);
  EXPECT_EQ(event->name, "");
}

TEST(MonitorMessageTest, NameOfANewObject) {
  Message message(GMEM_CMD_EVENT);
  message.U64(GMEM_A_EVENT_SEQ, 78)
      .U32(GMEM_A_EVENT_TYPE, GMEM_EVENT_VM_CREATED)
      .U32(GMEM_A_EVENT_VM_ID, 4)
      .String(GMEM_A_EVENT_NAME, "web-2")
      .U32(GMEM_A_EVENT_WINDOW_KIND, GMEM_WINDOW_KIND_LIVE);
  const auto event = ParseEvent(AsMessage(message.bytes()));
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->type, EventType::kVmCreated);
  EXPECT_EQ(event->name, "web-2");
  EXPECT_EQ(event->window_kind, WindowKind::kLive);
  EXPECT_EQ(event->window_id, 0U);
  EXPECT_EQ(event->view_id, 0U);
}

TEST(MonitorMessageTest, Fault) {
  Message message(GMEM_CMD_FAULT_GET);
  message.U32(GMEM_A_FAULT_VM_ID, 3)
      .U64(GMEM_A_FAULT_SEQ, 17)
      .U64(GMEM_A_FAULT_GUEST_ADDR, 0x5000)
      .U32(GMEM_A_FAULT_ACCESS, GMEM_ACCESS_WRITE)
      .U32(GMEM_A_FAULT_REASON, GMEM_FAULT_PINNED)
      .U64(GMEM_A_FAULT_COUNT, 6);
  const absl::Status missing = ParseFault(AsMessage(message.bytes())).status();
  EXPECT_EQ(GetErrno(missing), EBADMSG);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("lacks the attribute tid"));
  message.U32(GMEM_A_FAULT_TID, 1210);
  const auto fault = ParseFault(AsMessage(message.bytes()));
  ASSERT_TRUE(fault.ok()) << fault.status();
  EXPECT_EQ(fault->vm_id, 3U);
  EXPECT_EQ(fault->fault.sequence, 17U);
  EXPECT_EQ(fault->fault.page, GuestAddress(0x5000));
  EXPECT_EQ(fault->fault.reason, FaultReason::kPinned);
  EXPECT_FALSE(fault->fault.read);
  EXPECT_TRUE(fault->fault.write);
  EXPECT_FALSE(fault->fault.execute);
  EXPECT_EQ(fault->fault.count, 6U);
  EXPECT_EQ(fault->fault.thread, 1210);
}

TEST(MonitorMessageTest, EventOfAView) {
  Message message(GMEM_CMD_EVENT);
  message.U64(GMEM_A_EVENT_SEQ, 79)
      .U32(GMEM_A_EVENT_TYPE, GMEM_EVENT_VIEW_REVOKED)
      .U64(GMEM_A_EVENT_MEM_ID, 12)
      .U64(GMEM_A_EVENT_OFFSET, 0x2000)
      .U64(GMEM_A_EVENT_LENGTH, 0x3000)
      .U32(GMEM_A_EVENT_VIEW_ID, 7);
  const auto event = ParseEvent(AsMessage(message.bytes()));
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ(event->type, EventType::kViewRevoked);
  EXPECT_EQ(event->memory_id, 12U);
  EXPECT_EQ(event->offset, ByteOffset(0x2000));
  EXPECT_EQ(event->size, ByteSize(0x3000));
  EXPECT_EQ(event->view_id, 7U);
  EXPECT_EQ(event->window_id, 0U);
}

TEST(MonitorMessageTest, NewAttributesAndEventsAreNoError) {
  Message message = RefusedMessage();
  message.U32(31, 1).Bytes(1000, "new");
  EXPECT_TRUE(ParseEvent(AsMessage(message.bytes())).ok());
  Message event(GMEM_CMD_EVENT);
  event.U64(GMEM_A_EVENT_SEQ, 1).U32(GMEM_A_EVENT_TYPE, 4711);
  const auto parsed = ParseEvent(AsMessage(event.bytes()));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(ToString(parsed->type), "unknown");
}

TEST(MonitorMessageTest, GapIsNotTheKernels) {
  Message event(GMEM_CMD_EVENT);
  event.U64(GMEM_A_EVENT_SEQ, 1).U32(GMEM_A_EVENT_TYPE, 0);
  EXPECT_EQ(GetErrno(ParseEvent(AsMessage(event.bytes())).status()), EBADMSG);
}

TEST(MonitorMessageTest, MissingAttribute) {
  Message message(GMEM_CMD_VM_GET);
  message.U32(GMEM_A_VM_ID, 3);
  const absl::Status status = ParseVm(AsMessage(message.bytes())).status();
  EXPECT_EQ(GetErrno(status), EBADMSG);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lacks the attribute provider"));
}

TEST(MonitorMessageTest, WrongTypes) {
  Message narrow(GMEM_CMD_STATS_GET);
  narrow.U32(GMEM_A_STATS_VMS, 1);
  EXPECT_THAT(std::string(ParseStats(AsMessage(narrow.bytes())).status().message()),
              HasSubstr("vms of the wrong size"));
  Message endless(GMEM_CMD_VM_GET);
  endless.U32(GMEM_A_VM_ID, 3).Bytes(GMEM_A_VM_PROVIDER, "window");
  EXPECT_THAT(std::string(ParseVm(AsMessage(endless.bytes())).status().message()),
              HasSubstr("provider without an end"));
  Message nameless = VmMessage();
  nameless.Bytes(GMEM_A_VM_DETAIL, "");
  EXPECT_THAT(std::string(ParseVm(AsMessage(nameless.bytes())).status().message()),
              HasSubstr("lacks the attribute name"));
  Message empty(GMEM_CMD_VM_GET);
  empty.U32(GMEM_A_VM_ID, 3).Bytes(GMEM_A_VM_PROVIDER, "");
  EXPECT_FALSE(ParseVm(AsMessage(empty.bytes())).ok());
}

// Runs every parser over the messages of a datagram.
void ParseAll(const std::vector<uint8_t>& bytes) {
  ForEachMessage(bytes, [](const nlmsghdr& message) {
    (void)ParseVm(message);
    (void)ParseBinding(message);
    (void)ParseFault(message);
    (void)ParseGuestMemory(message);
    (void)ParseWindow(message);
    (void)ParseView(message);
    (void)ParseStats(message);
    (void)ParseEvent(message);
    (void)ParseResult(message, "test");
    if (const auto attributes = Attributes::OfMessage(message); attributes.ok()) {
      for (uint16_t type = 0; type <= Attributes::kMax; ++type) {
        (void)attributes->ForEachNested(type, "any",
                                        [](const Attributes&) { return absl::OkStatus(); });
      }
    }
    return absl::OkStatus();
  }).IgnoreError();
}

TEST(MonitorMessageTest, CutOffAnywhere) {
  const std::vector<uint8_t> whole = VmMessage().bytes();
  int nr_accepted = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    // Cut off the datagram...
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    int visited = 0;
    const absl::Status status = ForEachMessage(cut, [&](const nlmsghdr&) {
      ++visited;
      return absl::OkStatus();
    });
    EXPECT_EQ(status.ok(), size == 0) << size;
    EXPECT_EQ(visited, 0) << size;
    // ... and shorten the length in its header, too.
    if (size < sizeof(nlmsghdr)) continue;
    std::vector<uint8_t> shortened = cut;
    reinterpret_cast<nlmsghdr*>(shortened.data())->nlmsg_len = static_cast<uint32_t>(size);
    // The details, the name and the kind of windows are optional, so the parser can't notice that
    // one of them is missing.
    const auto vm = ParseVm(AsMessage(shortened));
    EXPECT_TRUE(!vm.ok() || !vm->windows.has_value()) << size;
    nr_accepted += vm.ok() ? 1 : 0;
  }
  EXPECT_EQ(nr_accepted, 4);
}

TEST(MonitorMessageTest, LengthsThatLie) {
  const std::vector<uint8_t> whole = VmMessage().bytes();
  for (const uint32_t length : {0U, 1U, 15U, 17U, 19U, 0x7fffffffU, 0xffffffffU}) {
    std::vector<uint8_t> bytes = whole;
    reinterpret_cast<nlmsghdr*>(bytes.data())->nlmsg_len = length;
    ParseAll(bytes);
  }
  for (size_t at = NLMSG_HDRLEN + GENL_HDRLEN; at + 2 <= whole.size(); at += 4) {
    for (const uint16_t length : {0, 1, 3, 4, 5, 0x7fff, 0xffff}) {
      std::vector<uint8_t> bytes = whole;
      std::memcpy(&bytes[at], &length, sizeof(length));
      ParseAll(bytes);
    }
  }
}

TEST(MonitorMessageTest, RandomDamage) {
  std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same each time
  const std::vector<std::vector<uint8_t>> wholes = {
      VmMessage().bytes(),    BindingMessage(0, 0x1000).bytes(), MemoryMessage().bytes(),
      StatsMessage().bytes(), RefusedMessage().bytes(),          WindowMessage(0).bytes(),
      ViewMessage(0).bytes()};
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = wholes[random() % wholes.size()];
    for (unsigned n = random() % 4; n > 0; --n) bytes[random() % bytes.size()] = random() & 0xff;
    ParseAll(bytes);
  }
}

TEST(MonitorMessageTest, SeveralMessagesInOneDatagram) {
  std::vector<uint8_t> bytes = VmMessage().bytes();
  const std::vector<uint8_t> second = RefusedMessage().bytes();
  bytes.insert(bytes.end(), second.begin(), second.end());
  std::vector<int> commands;
  EXPECT_TRUE(ForEachMessage(bytes, [&](const nlmsghdr& message) {
                const auto* generic = static_cast<const genlmsghdr*>(NLMSG_DATA(&message));
                commands.push_back(generic->cmd);
                return absl::OkStatus();
              }).ok());
  EXPECT_THAT(commands, testing::ElementsAre(GMEM_CMD_VM_GET, GMEM_CMD_EVENT));
}

// NLMSG_ERROR with its number and the kernel's text.
std::vector<uint8_t> ErrorMessage(int error, const char* words) {
  std::vector<uint8_t> buffer(512);
  nlmsghdr* const header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = NLMSG_ERROR;
  auto* const payload =
      static_cast<nlmsgerr*>(mnl_nlmsg_put_extra_header(header, sizeof(nlmsgerr)));
  payload->error = error;
  if (words != nullptr) {
    header->nlmsg_flags |= NLM_F_ACK_TLVS;
    mnl_attr_put_strz(header, NLMSGERR_ATTR_MSG, words);
  }
  buffer.resize(header->nlmsg_len);
  return buffer;
}

TEST(MonitorMessageTest, Results) {
  EXPECT_TRUE(ParseResult(AsMessage(ErrorMessage(0, nullptr)), "list VMs").ok());
  const absl::Status status = ParseResult(AsMessage(ErrorMessage(-ENOENT, "no such VM")), "look");
  EXPECT_EQ(GetErrno(status), ENOENT);
  EXPECT_THAT(std::string(status.message()), HasSubstr("can't look: no such VM: No such file"));
  // The kernel never sends such a number.
  EXPECT_EQ(GetErrno(ParseResult(AsMessage(ErrorMessage(5, nullptr)), "look")), EBADMSG);
  EXPECT_EQ(GetErrno(ParseResult(AsMessage(ErrorMessage(INT32_MIN, nullptr)), "look")), EBADMSG);
}

TEST(MonitorMessageTest, LossesShowInNumbers) {
  SequenceChecker checker;
  EXPECT_EQ(checker.CountLost(500), 0U);
  EXPECT_EQ(checker.CountLost(501), 0U);
  EXPECT_EQ(checker.CountLost(503), 1U);
  EXPECT_EQ(checker.CountLost(603), 99U);
  // The module was unloaded and loaded again.
  EXPECT_EQ(checker.CountLost(1), 0U);
  EXPECT_EQ(checker.CountLost(2), 0U);
}

TEST(MonitorMessageTest, EndOfTheFamily) {
  const auto is_end = [](uint8_t command, uint16_t type, uint16_t family) {
    return *IsEndOfFamily(
        AsMessage(Message(command, type).U16(CTRL_ATTR_FAMILY_ID, family).bytes()), kFamily);
  };
  EXPECT_TRUE(is_end(CTRL_CMD_DELFAMILY, GENL_ID_CTRL, kFamily));
  EXPECT_FALSE(is_end(CTRL_CMD_DELFAMILY, GENL_ID_CTRL, kFamily + 1));
  EXPECT_FALSE(is_end(CTRL_CMD_NEWFAMILY, GENL_ID_CTRL, kFamily));
  // An event: its commands have other meanings than nlctrl's.
  EXPECT_FALSE(is_end(CTRL_CMD_DELFAMILY, kFamily, kFamily));
  Message without_family(CTRL_CMD_DELFAMILY, GENL_ID_CTRL);
  EXPECT_EQ(GetErrno(IsEndOfFamily(AsMessage(without_family.bytes()), kFamily).status()), EBADMSG);
}

}  // namespace
}  // namespace gmem::internal
