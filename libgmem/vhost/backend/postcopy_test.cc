// SPDX-License-Identifier: MIT OR Apache-2.0
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <thread>

#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/ring.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;
using doubles::kData;
using doubles::TestGuest;

class PostcopyTest : public BackendTest {
 protected:
  // Begins a postcopy. The result is the front-end's userfaultfd.
  void Listen(UniqueFd& faults) {
    ASSERT_TRUE(Ask<FrontendRequest::kPostcopyAdvise>().ok());
    ASSERT_EQ(reply_fds_.size(), 1U) << "userfaultfd is forbidden here";
    faults = reply_fds_.Take(0);
    ASSERT_TRUE(Ask<FrontendRequest::kPostcopyListen>().ok());
  }
  // The answer sets @base, which must live until then.
  void SendTable(const MemoryRegion& region, uint64_t& base) {
    const MemoryTable table = {.nr_regions = 1, .padding = 0, .regions = {region}};
    static constexpr Format kFormat = {.name = "SET_MEM_TABLE with bases",
                                       .has_reply = true,
                                       .min_reply_size = 40,
                                       .max_reply_size = 40};
    frontend_->StartFormat(
        static_cast<uint32_t>(FrontendRequest::kSetMemTable), kFormat, AsBytes(table),
        {guest_.fd()},
        [&base](const absl::StatusOr<Message*>& reply) {
          ASSERT_TRUE(reply.ok()) << reply.status();
          base = FromBytes<MemoryTable>((*reply)->bytes()).regions[0].user_address;
        },
        /*want_ack=*/false);
    for (int i = 0; i < 5; i++) Run();
  }
  void AcknowledgeTable() {
    frontend_->Start<FrontendRequest::kSetMemTable>(
        {}, {}, [](const absl::StatusOr<Message*>&) {}, /*want_ack=*/false);
    Run();
    ASSERT_TRUE(session_.ok()) << session_;
  }
};

// Does a userfaultfd serve the faults at @address?
bool HasServedFaults(const uint8_t* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<uintptr_t>(address);
  bool is_here = false;
  for (std::string line; std::getline(maps, line);) {
    uintptr_t start = 0;
    uintptr_t end = 0;
    char dash = 0;
    std::istringstream words(line);
    if (words >> std::hex >> start >> dash >> end && dash == '-') {
      is_here = wanted >= start && wanted < end;
    } else if (is_here && line.starts_with("VmFlags:")) {
      return line.find(" um") != std::string::npos;
    }
  }
  return false;
}

// Nobody would serve a fault before the front-end has acknowledged the addresses.
TEST_F(PostcopyTest, WaitsUntilTheFrontendKnowsWhereARegionIs) {
  Negotiate();
  UniqueFd faults;
  ASSERT_NO_FATAL_FAILURE(Listen(faults));
  const Format format = {.name = "ADD_MEM_REG with its base",
                         .has_reply = true,
                         .min_reply_size = 40,
                         .max_reply_size = 40};
  const SingleMemoryRegion region = {.padding = 0, .region = guest_.region()};
  uint64_t base = 0;
  frontend_->StartFormat(
      static_cast<uint32_t>(FrontendRequest::kAddMemReg), format, AsBytes(region), {guest_.fd()},
      [&base](const absl::StatusOr<Message*>& reply) {
        ASSERT_TRUE(reply.ok()) << reply.status();
        base = FromBytes<SingleMemoryRegion>((*reply)->bytes()).region.user_address;
      },
      /*want_ack=*/false);
  for (int i = 0; i < 5; i++) Run();
  const GuestSpan memory = backend_->memory().FromGuest(kData, 4096);
  EXPECT_EQ(base + TestGuest::kData, reinterpret_cast<uintptr_t>(memory.data()));
  EXPECT_FALSE(HasServedFaults(memory.data()));
  Format known = {};
  known.name = "ADD_MEM_REG, the acknowledgement";
  const uint64_t ok = 0;
  frontend_->StartFormat(
      static_cast<uint32_t>(FrontendRequest::kAddMemReg), known, AsBytes(ok), {},
      [](const absl::StatusOr<Message*>&) {}, /*want_ack=*/false);
  Run();
  ASSERT_TRUE(session_.ok()) << session_;
  EXPECT_TRUE(HasServedFaults(memory.data()));
}

// The front-end learns the addresses of the memory, and provides pages that are missing.
TEST_F(PostcopyTest, LetsTheFrontendServeFaults) {
  Negotiate();
  UniqueFd faults;
  ASSERT_NO_FATAL_FAILURE(Listen(faults));
  uint64_t base = 0;
  SendTable(guest_.region(), base);
  const GuestSpan memory = backend_->memory().FromGuest(kData, 4096);
  EXPECT_EQ(base + TestGuest::kData, reinterpret_cast<uintptr_t>(memory.data()));
  ASSERT_NO_FATAL_FAILURE(AcknowledgeTable());

  uint8_t seen = 0;
  std::thread device([&] { seen = *static_cast<volatile uint8_t*>(memory.data()); });
  pollfd poll_fd = {.fd = faults.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poll_fd, 1, doubles::kPatienceMilliseconds), 1);
  alignas(4096) std::array<uint8_t, 4096> page;
  page.fill(7);
  uffdio_copy copy = {};
  copy.dst = reinterpret_cast<uintptr_t>(memory.data());
  copy.src = reinterpret_cast<uintptr_t>(page.data());
  copy.len = page.size();
  EXPECT_EQ(ioctl(faults.get(), UFFDIO_COPY, &copy), 0) << errno;
  device.join();
  EXPECT_EQ(seen, 7);
  EXPECT_EQ(*Ask<FrontendRequest::kPostcopyEnd>(), 0U);
}

// An answer would let the front-end take the old memory for free.
TEST_F(PostcopyTest, ATableWaitsForChainsInFlight) {
  ASSERT_NO_FATAL_FAILURE(HoldARequest());
  UniqueFd faults;
  ASSERT_NO_FATAL_FAILURE(Listen(faults));
  MemoryRegion region = guest_.region();
  region.user_address += TestGuest::kSize;
  uint64_t base = 0;
  SendTable(region, base);
  EXPECT_EQ(base, 0U);
  doubles::TestDevice::Finish(*backend_->queue(0), device_.held[0]);
  for (int i = 0; i < 5; i++) Run();
  EXPECT_EQ(base,
            reinterpret_cast<uintptr_t>(backend_->memory().FromGuest(TestGuest::kGuest, 1).data()));
  AcknowledgeTable();
}

// The front-end keeps its userfaultfd, and the region stays where it is.
TEST_F(PostcopyTest, TheKernelServesFaultsAfterTheEnd) {
  Negotiate();
  std::array<UniqueFd, 2> faults;
  for (UniqueFd& fd : faults) {
    ASSERT_NO_FATAL_FAILURE(Listen(fd));
    uint64_t base = 0;
    SendTable(guest_.region(), base);
    ASSERT_NO_FATAL_FAILURE(AcknowledgeTable());
    const auto* const memory = reinterpret_cast<const uint8_t*>(base);
    EXPECT_TRUE(HasServedFaults(memory));
    EXPECT_EQ(*Ask<FrontendRequest::kPostcopyEnd>(), 0U);
    EXPECT_FALSE(HasServedFaults(memory));
  }
}

}  // namespace
}  // namespace gmem::vhost
