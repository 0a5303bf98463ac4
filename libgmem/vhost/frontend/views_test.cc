// SPDX-License-Identifier: MIT OR Apache-2.0
// The back-end gets views of guestmems, and loses them in time.
#include <fcntl.h>
#include <linux/gmem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/fake_module.h"
#include "testing/matchers.h"
#include "vhost/testing/frontend.h"

namespace gmem::vhost {
namespace {

using doubles::FakeBackend;
using doubles::FrontendTest;
using gmem::doubles::FailsWith;
using gmem::doubles::FakeModule;
using gmem::doubles::IsOk;
using testing::ElementsAre;
using testing::IsEmpty;
using Request = FrontendRequest;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kAck = Bit(ProtocolFeature::kReplyAck);
constexpr uint64_t kSlots = Bit(ProtocolFeature::kConfigureMemSlots);

ino_t InodeOf(int fd) {
  struct stat stat = {};
  EXPECT_EQ(fstat(fd, &stat), 0);
  return stat.st_ino;
}

// With whole tables, or by difference.
class ViewsTest : public FrontendTest, public testing::WithParamInterface<bool> {
 protected:
  ViewsTest() : device_(module_.OpenDevice()), memory_(NewMemory()) {}

  GuestMemory NewMemory() const {
    auto memory = device_.CreateGuestMemory(ByteSize(64 * kPage));
    EXPECT_THAT(memory, IsOk());
    return *std::move(memory);
  }
  static FakeBackend::Options Features(uint64_t more = 0) {
    return {.protocol_features = kAck | (GetParam() ? kSlots : 0) | more};
  }
  // Pages @first to @last of the guest, which are the same pages of the guestmem.
  GuestRegion Pages(uint64_t first, uint64_t last) const {
    return {.guest_address = GuestAddress(first * kPage),
            .size = ByteSize((last - first + 1) * kPage),
            .user_address = 0x7f0000000000 + first * kPage,
            .fd = memory_.fd(),
            .offset = ByteOffset(first * kPage)};
  }
  // The views that aren't revoked, as "first+count" in pages.
  std::vector<std::string> Views() const {
    std::vector<std::string> all;
    for (const auto& [id, view] : module_.views()) {
      EXPECT_EQ(view.memory, InodeOf(memory_.fd()));
      EXPECT_EQ(view.create.flags, 0U);
      if (view.is_revoked) continue;
      all.push_back(std::to_string(view.create.offset / kPage) + "+" +
                    std::to_string(view.create.length / kPage));
    }
    return all;
  }

  FakeModule module_;
  const Device device_;
  const GuestMemory memory_;
};

INSTANTIATE_TEST_SUITE_P(Tables, ViewsTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "ByDifference" : "Whole"; });

TEST_P(ViewsTest, TheBackEndGetsViews) {
  FakeBackend::Options options = Features();
  std::vector<ino_t> inodes;
  std::vector<MemoryRegion> regions;
  const auto record = [&](FakeBackend& backend, Message& message) {
    for (size_t i = 0; i < message.fds.size(); i++) inodes.push_back(InodeOf(message.fds.get(i)));
    if (message.header.request == static_cast<uint32_t>(Request::kAddMemReg)) {
      regions.push_back(FromBytes<SingleMemoryRegion>(message.bytes()).region);
    } else {
      const auto table = FromBytes<MemoryTable>(message.bytes());
      regions.assign(table.regions.begin(), table.regions.begin() + table.nr_regions);
    }
    backend.Answer(message);
  };
  options.handlers[Request::kSetMemTable] = record;
  options.handlers[Request::kAddMemReg] = record;
  StartNegotiated(std::move(options));
  const UniqueFd file = doubles::MakeFile(MiB(1));
  GuestRegion other = Pages(32, 33);
  other.fd = file.get();
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15), other}), IsOk());
  EXPECT_THAT(Views(), ElementsAre("1+2", "8+8"));

  ASSERT_EQ(inodes.size(), 3u);
  EXPECT_NE(inodes[0], InodeOf(memory_.fd()));
  EXPECT_NE(inodes[1], InodeOf(memory_.fd()));
  EXPECT_NE(inodes[0], inodes[1]);
  EXPECT_EQ(inodes[2], InodeOf(file.get()));
  // A view begins with the region.
  EXPECT_EQ(regions[1], (MemoryRegion{.guest_address = 8 * kPage,
                                      .size = 8 * kPage,
                                      .user_address = 0x7f0000000000 + 8 * kPage,
                                      .mmap_offset = 0}));
  EXPECT_EQ(regions[2].mmap_offset, 32 * kPage);
}

// There may be hundreds of regions.
TEST_P(ViewsTest, ClosesWhatItDoesntSendAgain) {
  StartNegotiated(Features());
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), IsOk());
  for (const SharedRegion& region : frontend_->memory()) {
    EXPECT_EQ(region.view->fd() >= 0, !GetParam());
  }
  EXPECT_THAT(Views(), ElementsAre("1+2", "8+8"));
}

TEST_P(ViewsTest, ARegionThatStaysKeepsItsView) {
  StartNegotiated(Features());
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), IsOk());
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), IsOk());
  ASSERT_THAT(frontend_->SetMemory({Pages(8, 15), Pages(20, 20)}), IsOk());
  EXPECT_EQ(module_.views().size(), 3u);
  EXPECT_THAT(Views(), ElementsAre("8+8", "20+1"));
}

// The back-end keeps the part that it has, and can't reach what was withdrawn.
TEST_P(ViewsTest, RegionsGrowAndShrink) {
  StartNegotiated(Features());
  // A virtqueue that works, or it would get whole regions.
  ASSERT_THAT(frontend_->SetVringKick(0, -1), IsOk());
  ASSERT_THAT(frontend_->SetMemory({Pages(4, 7)}), IsOk());
  ASSERT_THAT(frontend_->SetMemory({Pages(4, 15)}), IsOk());
  if (GetParam()) {
    EXPECT_THAT(Views(), ElementsAre("4+4", "8+8"));
  } else {
    EXPECT_THAT(Views(), ElementsAre("4+12"));
  }
  ASSERT_THAT(frontend_->SetMemory({Pages(4, 5), Pages(7, 15)}), IsOk());
  EXPECT_THAT(Views(), testing::UnorderedElementsAreArray(
                           GetParam() ? std::vector<std::string>{"4+2", "8+8", "7+1"}
                                      : std::vector<std::string>{"4+2", "7+9"}));
  ASSERT_THAT(frontend_->SetMemory({}), IsOk());
  EXPECT_THAT(Views(), IsEmpty());
}

// The view goes after the back-end has unmapped it, not before.
TEST_P(ViewsTest, RevokesBehindTheAcknowledgement) {
  FakeBackend::Options options = Features();
  int nr_calls = 0;
  const auto look = [&](FakeBackend& backend, Message& message) {
    nr_calls++;
    EXPECT_EQ(module_.CountCalls(GMEM_MEM_REVOKE), 0);
    backend.Answer(message);
  };
  options.handlers[Request::kSetMemTable] = look;
  options.handlers[Request::kRemMemReg] = look;
  StartNegotiated(std::move(options));
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
  ASSERT_THAT(frontend_->SetMemory({}), IsOk());
  EXPECT_EQ(nr_calls, GetParam() ? 1 : 2);
  EXPECT_EQ(module_.CountCalls(GMEM_MEM_REVOKE), 1);
}

TEST_P(ViewsTest, ARefusedRegionLosesItsView) {
  FakeBackend::Options options = Features();
  const auto refuse = [](FakeBackend& backend, Message& message) {
    backend.Reply(message, AsBytes(uint64_t{EINVAL}));
  };
  options.handlers[Request::kSetMemTable] = refuse;
  options.handlers[Request::kAddMemReg] = refuse;
  StartNegotiated(std::move(options));
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), FailsWith(EIO, ""));
  EXPECT_EQ(module_.views().size(), 1u);
  EXPECT_THAT(Views(), IsEmpty());
}

TEST_P(ViewsTest, AllGoWithTheConnection) {
  StartNegotiated(Features());
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), IsOk());
  bool was_revoked = false;
  handler_.then = [&] {
    was_revoked = Views().empty();
    return absl::OkStatus();
  };
  OnBackend([](FakeBackend& backend) { backend.Close(); });
  ASSERT_TRUE(doubles::RunUntilEnd(*frontend_));
  EXPECT_TRUE(was_revoked) << "when OnDisconnect() runs, the VMM may unbind the memory";
  EXPECT_THAT(Views(), IsEmpty());
  handler_.then = nullptr;

  // The next back-end gets views of its own.
  ASSERT_THAT(frontend_->Reconnect(NewBackend(Features())), IsOk());
  EXPECT_THAT(Views(), testing::UnorderedElementsAre("1+2", "8+8"));
  EXPECT_EQ(module_.views().size(), 4u);
  frontend_->Close();
  EXPECT_THAT(Views(), IsEmpty());
  ASSERT_THAT(frontend_->Reconnect(NewBackend(Features())), IsOk());
  frontend_.reset();
  EXPECT_THAT(Views(), IsEmpty());
}

// The connection ends while the back-end has a view, but hasn't acknowledged the region yet.
TEST_P(ViewsTest, ThoseUnderWayGoWithTheConnection) {
  FakeBackend::Options options = Features();
  const auto close = [](FakeBackend& backend, Message&) { backend.Close(); };
  options.handlers[Request::kSetMemTable] = close;
  options.handlers[Request::kAddMemReg] = close;
  StartNegotiated(std::move(options));
  std::vector<std::string> left = {"OnDisconnect() didn't run"};
  handler_.then = [&] {
    left = Views();
    return absl::OkStatus();
  };
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), FailsWith(ECONNRESET, ""));
  EXPECT_EQ(module_.views().size(), 2u);
  EXPECT_THAT(left, IsEmpty()) << "when OnDisconnect() runs, the VMM may unbind the memory";
}

// A back-end that doesn't give memory back has it until the connection ends.
TEST_P(ViewsTest, ARefusedRemovalChangesNothing) {
  std::atomic<bool> refuses = false;
  FakeBackend::Options options = Features();
  const auto answer = [&](FakeBackend& backend, Message& message) {
    refuses ? backend.Reply(message, AsBytes(uint64_t{EINVAL})) : backend.Answer(message);
  };
  options.handlers[Request::kSetMemTable] = answer;
  options.handlers[Request::kRemMemReg] = answer;
  StartNegotiated(std::move(options));
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2), Pages(8, 15)}), IsOk());
  refuses = true;
  EXPECT_THAT(frontend_->SetMemory({Pages(8, 15)}), FailsWith(EIO, ""));
  EXPECT_THAT(Views(), ElementsAre("1+2", "8+8"));
  EXPECT_EQ(frontend_->memory().size(), 2u);
  refuses = false;
  ASSERT_THAT(frontend_->SetMemory({Pages(8, 15)}), IsOk());
  EXPECT_THAT(Views(), ElementsAre("8+8"));

  refuses = true;
  EXPECT_THAT(frontend_->SetMemory({}), FailsWith(EIO, ""));
  EXPECT_THAT(Views(), ElementsAre("8+8"));
  frontend_->Close();
  EXPECT_THAT(Views(), IsEmpty());
}

TEST_P(ViewsTest, NoViewNothingSent) {
  StartNegotiated(Features());
  module_.FailNext(GMEM_MEM_VIEW, EOPNOTSUPP);
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}),
              FailsWith(EOPNOTSUPP, "secret memory can't have views. Frontend::Options::whole"));
  module_.FailNext(GMEM_MEM_VIEW, ENOMEM);
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), FailsWith(ENOMEM, "can't share 0x1000"));
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  EXPECT_TRUE(frontend_->memory().empty());
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
}

TEST_P(ViewsTest, WholeGuestMemoryOnDemand) {
  Frontend::Options options = WithTimeout(doubles::kPatience);
  options.whole_guest_memory = true;
  StartNegotiated(Features(), std::move(options));
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
  EXPECT_EQ(frontend_->memory()[0].sent().mmap_offset, kPage);
  EXPECT_EQ(InodeOf(frontend_->memory()[0].sent_fd()), InodeOf(memory_.fd()));
  EXPECT_TRUE(module_.views().empty());
}

TEST_P(ViewsTest, GuestmemsNeedNoSeals) {
  Frontend::Options options = WithTimeout(doubles::kPatience);
  options.only_sealed_memory = true;
  StartNegotiated(Features(), std::move(options));
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
}

TEST_P(ViewsTest, Names) {
  Frontend::Options options = WithTimeout(doubles::kPatience);
  EXPECT_EQ(options.view_name, "vhost-user");
  options.view_name = "disk 3";
  StartNegotiated(Features(), std::move(options));
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
  EXPECT_STREQ(reinterpret_cast<const char*>(module_.views()[1].create.name), "disk 3");

  options.view_name = std::string(32, 'x');
  EXPECT_THAT(Frontend::Create(NewBackend(Features()), std::move(options)),
              FailsWith(EINVAL, "at most 31"));
}

TEST_P(ViewsTest, NoPostcopy) {
  StartNegotiated(Features(Bit(ProtocolFeature::kPagefault)));
  ASSERT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
  backend_->TakeRequests();
  const absl::Status status = frontend_->PostcopyAdvise();
  EXPECT_THAT(status, FailsWith(EOPNOTSUPP, "userfaultfd, which can't register the views"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
}

// From the announcement on, not only during the phase itself.
TEST_P(ViewsTest, NoViewsDuringPostcopy) {
  FakeBackend::Options options = Features(Bit(ProtocolFeature::kPagefault));
  options.handlers[Request::kPostcopyAdvise] = [](FakeBackend& backend, Message& message) {
    const UniqueFd uffd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    const int fd = uffd.get();
    backend.Reply(message, {}, {&fd, 1});
  };
  StartNegotiated(std::move(options));
  ASSERT_THAT(frontend_->PostcopyAdvise(), IsOk());
  backend_->TakeRequests();
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), FailsWith(EOPNOTSUPP, "userfaultfd"));
  EXPECT_THAT(backend_->TakeRequests(), IsEmpty());
  EXPECT_TRUE(module_.views().empty());
  ASSERT_THAT(frontend_->PostcopyListen(), IsOk());
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), FailsWith(EOPNOTSUPP, "userfaultfd"));
  ASSERT_THAT(frontend_->PostcopyEnd(), IsOk());
  EXPECT_THAT(frontend_->SetMemory({Pages(1, 2)}), IsOk());
}

class OldModuleViewsTest : public FrontendTest {};

TEST_F(OldModuleViewsTest, SaysSo) {
  FakeModule module(1, 0);
  const auto memory = module.OpenDevice().CreateGuestMemory(KiB(4));
  ASSERT_THAT(memory, IsOk());
  StartNegotiated({.protocol_features = kAck});
  const GuestRegion region = {.size = KiB(4), .fd = memory->fd()};
  EXPECT_THAT(frontend_->SetMemory({region}),
              FailsWith(ENOTTY,
                        "the module has no views; load a gmem.ko of ABI 2 or later. "
                        "Frontend::Options::whole_guest_memory works"));
}

}  // namespace
}  // namespace gmem::vhost
