// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/message.h"

#include <sys/eventfd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "gtest/gtest.h"

namespace gmem::vhost {
namespace {

void AddFds(Message& message, size_t count) {
  for (size_t i = 0; i < count; i++) {
    ASSERT_TRUE(message.fds.Add(UniqueFd(eventfd(0, EFD_CLOEXEC))));
  }
}

void Fill(Message& message, uint32_t request, absl::Span<const uint8_t> payload, size_t fds = 0,
          uint32_t flags = kVersion) {
  message.header = {
      .request = request, .flags = flags, .size = static_cast<uint32_t>(payload.size())};
  std::memcpy(message.payload.data(), payload.data(), payload.size());
  message.fds.Clear();
  AddFds(message, fds);
}

template <typename Payload>
absl::Status CheckFrontend(FrontendRequest request, const Payload& payload, size_t fds = 0) {
  Message message;
  Fill(message, static_cast<uint32_t>(request), AsBytes(payload), fds);
  return CheckFrontendRequest(message);
}

template <typename Payload>
absl::Status CheckBackend(BackendRequest request, const Payload& payload, size_t fds = 0) {
  Message message;
  Fill(message, static_cast<uint32_t>(request), AsBytes(payload), fds);
  return CheckBackendRequest(message);
}

// Probes every request of one side. The check accepts the size and the number of descriptors in the
// request's line, and refuses one byte or one descriptor more or less.
template <typename Request>
void ProbeAll(uint32_t last, absl::Status (*check)(const Message&)) {
  static Message message;
  for (uint32_t number = 1; number <= last; number++) {
    const Format* const format = FindFormat(static_cast<Request>(number));
    ASSERT_NE(format, nullptr) << number;
    SCOPED_TRACE(std::string(format->name));
    const std::string zeroes(format->min_size, '\0');
    message.payload.fill(0);
    for (const int size : {format->min_size - 1, format->max_size + 1}) {
      if (size < 0) continue;
      message.header = {.request = number, .flags = kVersion, .size = static_cast<uint32_t>(size)};
      message.fds.Clear();
      AddFds(message, format->min_fds);
      EXPECT_EQ(check(message).code(), absl::StatusCode::kInvalidArgument) << size;
    }
    for (const int fds : {format->min_fds - 1, format->max_fds + 1}) {
      if (fds < 0 || fds > static_cast<int>(kMaxFds)) continue;
      message.header = {.request = number, .flags = kVersion, .size = format->min_size};
      message.fds.Clear();
      AddFds(message, static_cast<size_t>(fds));
      EXPECT_EQ(check(message).code(), absl::StatusCode::kInvalidArgument) << fds;
    }
    message.header.flags = kVersion | kFlagReply;
    EXPECT_FALSE(check(message).ok());
    message.header.flags = 2;
    EXPECT_FALSE(check(message).ok());
  }
  for (const uint32_t number : {uint32_t{0}, last + 1, UINT32_MAX}) {
    EXPECT_EQ(FindFormat(static_cast<Request>(number)), nullptr);
    message.header = {.request = number, .flags = kVersion, .size = 0};
    message.fds.Clear();
    EXPECT_EQ(check(message).code(), absl::StatusCode::kUnimplemented);
  }
  message.fds.Clear();
}

TEST(MessageTest, EveryFrontendRequestIsBounded) {
  ProbeAll<FrontendRequest>(44, &CheckFrontendRequest);
}

TEST(MessageTest, EveryBackendRequestIsBounded) {
  ProbeAll<BackendRequest>(10, &CheckBackendRequest);
}

TEST(MessageTest, NamesAreTheSpecifications) {
  EXPECT_EQ(Name(FrontendRequest::kSetMemTable), "SET_MEM_TABLE");
  EXPECT_EQ(Name(FrontendRequest::kGetShmemConfig), "GET_SHMEM_CONFIG");
  EXPECT_EQ(Name(BackendRequest::kShmemUnmap), "SHMEM_UNMAP");
  EXPECT_EQ(Name(static_cast<BackendRequest>(99)), "unknown");
}

TEST(MessageTest, TypedPayloadsHaveTheSizesOfTheTable) {
  EXPECT_EQ(FindFormat(FrontendRequest::kSetVringAddr)->max_size,
            sizeof(RequestTraits<FrontendRequest::kSetVringAddr>::Payload));
  EXPECT_EQ(FindFormat(FrontendRequest::kGetShmemConfig)->max_reply_size,
            sizeof(RequestTraits<FrontendRequest::kGetShmemConfig>::Reply));
  EXPECT_EQ(AsBytes(Empty()).size(), 0U);
}

TEST(MessageTest, MemoryTableSaysHowLongItIs) {
  MemoryTable table = {};
  table.nr_regions = 3;
  EXPECT_EQ(AsBytes(table).size(), 8U + 3 * 32U);
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kSetMemTable, table, 3).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetMemTable, table, 2).ok());
  // The table claims more regions than its bytes hold.
  Message message;
  Fill(message, 5, AsBytes(table), 3);
  const uint32_t claimed = 4;
  std::memcpy(message.payload.data(), &claimed, sizeof(claimed));
  AddFds(message, 1);
  EXPECT_FALSE(CheckFrontendRequest(message).ok());
  const uint32_t absurd = UINT32_MAX;
  std::memcpy(message.payload.data(), &absurd, sizeof(absurd));
  EXPECT_FALSE(CheckFrontendRequest(message).ok());
}

TEST(MessageTest, AddMemRegIsARegionOrAnAcknowledgement) {
  const SingleMemoryRegion region = {};
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kAddMemReg, region, 1).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kAddMemReg, region, 0).ok());
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kAddMemReg, uint64_t{0}, 0).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kAddMemReg, uint64_t{0}, 1).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kAddMemReg, VringArea{}, 1).ok());
}

TEST(MessageTest, ConfigStaysInItsSpace) {
  ConfigSpace config = {};
  config.size = 8;
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kGetConfig, config).ok());
  config.offset = kMaxConfigSize - 8;
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kSetConfig, config).ok());
  config.offset++;
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetConfig, config).ok());
  config.offset = UINT32_MAX;
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetConfig, config).ok());
  config = {};
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kGetConfig, config).ok());
}

TEST(MessageTest, InflightHasExactlyTwoSizes) {
  const InflightArea area = {};
  Message message;
  for (const size_t size : {size_t{20}, size_t{24}}) {
    Fill(message, 31, AsBytes(area).first(size));
    EXPECT_TRUE(CheckFrontendRequest(message).ok()) << size;
  }
  Fill(message, 31, AsBytes(area).first(22));
  EXPECT_FALSE(CheckFrontendRequest(message).ok());
}

TEST(MessageTest, VringDescriptorMatchesTheNoFdBit) {
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kSetVringKick, uint64_t{3}, 1).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetVringKick, uint64_t{3}, 0).ok());
  EXPECT_TRUE(CheckFrontend(FrontendRequest::kSetVringCall, 3 | kVringNoFd, 0).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetVringCall, 3 | kVringNoFd, 1).ok());
  EXPECT_FALSE(CheckFrontend(FrontendRequest::kSetVringErr, uint64_t{0x203}, 1).ok());
  VringArea area = {.vring = 1 | kVringNoFd, .size = 0, .offset = 0};
  EXPECT_TRUE(CheckBackend(BackendRequest::kVringHostNotifierMsg, area).ok());
  EXPECT_FALSE(CheckBackend(BackendRequest::kVringHostNotifierMsg, area, 1).ok());
}

TEST(MessageTest, ReplyMatchesItsRequest) {
  const Format& format = *FindFormat(FrontendRequest::kGetFeatures);
  const uint64_t features = 1;
  Message message;
  Fill(message, 1, AsBytes(features), 0, kVersion | kFlagReply);
  EXPECT_TRUE(CheckReply(message, 1, format, false).ok());
  // qemu-storage-daemon answers GET_CONFIG with this flag.
  message.header.flags |= kFlagNeedReply;
  EXPECT_TRUE(CheckReply(message, 1, format, false).ok());

  EXPECT_EQ(CheckReply(message, 15, format, false).code(), absl::StatusCode::kDataLoss);
  for (const uint32_t flags :
       {kVersion, kFlagReply, kFlagReply | 2, kVersion | kFlagReply | 0x10}) {
    Fill(message, 1, AsBytes(features), 0, flags);
    EXPECT_FALSE(CheckReply(message, 1, format, false).ok()) << flags;
  }
  Fill(message, 1, AsBytes(features).first(7), 0, kVersion | kFlagReply);
  EXPECT_FALSE(CheckReply(message, 1, format, false).ok());
  Fill(message, 1, AsBytes(features), 1, kVersion | kFlagReply);
  EXPECT_FALSE(CheckReply(message, 1, format, false).ok());
}

TEST(MessageTest, AcknowledgementIsANumber) {
  const Format& format = *FindFormat(FrontendRequest::kSetVringNum);
  const uint64_t ack = 0;
  Message message;
  Fill(message, 8, AsBytes(ack), 0, kVersion | kFlagReply);
  EXPECT_TRUE(CheckReply(message, 8, format, true).ok());
  Fill(message, 8, AsBytes(ack).first(4), 0, kVersion | kFlagReply);
  EXPECT_FALSE(CheckReply(message, 8, format, true).ok());
}

TEST(MessageTest, ConfigReplyMayBeAnErrorButMustBeConsistent) {
  const Format& format = *FindFormat(FrontendRequest::kGetConfig);
  ConfigSpace config = {};
  Message message;
  Fill(message, 24, AsBytes(config), 0, kVersion | kFlagReply);
  EXPECT_TRUE(CheckReply(message, 24, format, false).ok());
  Fill(message, 24, AsBytes(config).first(0), 0, kVersion | kFlagReply);
  EXPECT_TRUE(CheckReply(message, 24, format, false).ok());
  Fill(message, 24, AsBytes(config).first(11), 0, kVersion | kFlagReply);
  EXPECT_EQ(CheckReply(message, 24, format, false).code(), absl::StatusCode::kDataLoss);
  config.size = 8;
  Fill(message, 24, AsBytes(config).first(16), 0, kVersion | kFlagReply);
  EXPECT_EQ(CheckReply(message, 24, format, false).code(), absl::StatusCode::kDataLoss);
}

TEST(FdListTest, OwnsAndBounds) {
  FdList list;
  for (size_t i = 0; i < kMaxFds; i++) EXPECT_TRUE(list.Add(UniqueFd(eventfd(0, EFD_CLOEXEC))));
  EXPECT_FALSE(list.Add(UniqueFd(eventfd(0, EFD_CLOEXEC))));
  EXPECT_EQ(list.get(kMaxFds), -1);
  const UniqueFd taken = list.Take(2);
  EXPECT_TRUE(taken.is_valid());
  EXPECT_FALSE(list.Take(2).is_valid());
  FdList moved = std::move(list);
  EXPECT_EQ(moved.size(), kMaxFds);
  moved.Clear();
  EXPECT_TRUE(moved.empty());
}

}  // namespace
}  // namespace gmem::vhost
