// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>

#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;

// Bytes that this process has allocated; always 0 under a sanitizer, which has its own allocator.
size_t AllocatedBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

class StateTransferTest : public BackendTest {};

TEST_F(StateTransferTest, DeviceStateGoesThroughAPipe) {
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  EXPECT_EQ(
      *Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()}),
      kReplyNoFd);
  out.reset();
  std::string state;
  std::array<char, 65536> piece;
  for (ssize_t got = 1; got > 0;) {
    Run();
    got = read(in.get(), piece.data(), piece.size());
    if (got > 0) state.append(piece.data(), static_cast<size_t>(got));
  }
  EXPECT_EQ(state, device_.state);
  EXPECT_EQ(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);

  ASSERT_EQ(pipe(ends.data()), 0);
  in.reset(ends[0]);
  out.reset(ends[1]);
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kLoad, .phase = TransferPhase::kStopped}, {in.get()})
          .ok());
  ASSERT_EQ(write(out.get(), "loaded", 6), 6);
  out.reset();
  EXPECT_EQ(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  EXPECT_EQ(device_.state, "loaded");
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U) << "there was no transfer";
}

// QEMU closes the pipe when a migration is cancelled: a SIGPIPE would end this test.
TEST_F(StateTransferTest, SurvivesAPipeThatNobodyReads) {
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  in.reset();
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()})
          .ok());
  for (int i = 0; i < 3; i++) Run();
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  // Notifications are too frequent to block SIGPIPE for each, so their pipes are refused.
  ExpectRefused(Ask<FrontendRequest::kSetVringCall>(0, {out.get()}));
  ExpectRefused(Ask<FrontendRequest::kSetLogFd>({}, {out.get()}));
  ExpectRefused(Ask<FrontendRequest::kSetVringErr>(0, {guest_.fd()}));
}

// A state may be large, and a session long.
TEST_F(StateTransferTest, KeepsNoMemoryAfterATransfer) {
  Negotiate();
  constexpr size_t kSize = size_t{16} << 20;
  device_.state = std::string(kSize, 's');
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  in.reset();
  const size_t before = AllocatedBytes();
  ASSERT_TRUE(
      Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()})
          .ok());
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  EXPECT_LT(AllocatedBytes(), before + kSize / 2);
}

}  // namespace
}  // namespace gmem::vhost
