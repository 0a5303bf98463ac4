// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <ctime>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;
using doubles::kPatience;

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

// A pipe has room for 64 KiB. The front-end may make it blocking, and not read.
TEST_F(StateTransferTest, APipeThatNobodyReadsDoesNotBlockTheLoop) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(200);
  Connect(device_, kTimeout);
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  UniqueFd in(ends[0]);
  const UniqueFd out(ends[1]);
  ASSERT_EQ(
      *Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()}),
      kReplyNoFd);
  for (int i = 0; i < 50; i++) {
    ASSERT_EQ(fcntl(out.get(), F_SETFL, 0), 0);
    EXPECT_EQ(*Ask<FrontendRequest::kGetQueueNum>(), 2U);
    absl::SleepFor(absl::Milliseconds(1));
  }
  // A front-end that waits for the end gets it, but not for ever.
  bool is_answered = false;
  frontend_->Start<FrontendRequest::kCheckDeviceState>(
      {}, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered |= reply.ok(); });
  const absl::Time start = absl::Now();
  while (session_.ok() && absl::Now() < start + kPatience) {
    Run();
    absl::SleepFor(std::min(backend_->next_deadline() - absl::Now(), absl::Milliseconds(10)));
  }
  EXPECT_EQ(GetErrno(session_), ETIMEDOUT) << session_;
  EXPECT_GE(absl::Now() - start, kTimeout / 2);
  EXPECT_FALSE(is_answered);
  // Lets the thread go.
  in.reset();
}

TEST_F(StateTransferTest, NeedsAThread) {
  device_.has_threads = false;
  Negotiate();
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  const UniqueFd in(ends[0]), out(ends[1]);
  EXPECT_EQ(
      *Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {out.get()}),
      kReplyNoFd | EOPNOTSUPP);
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

// A read from a signalfd takes the signals of the reader: of the back-end, not of the front-end.
TEST_F(StateTransferTest, TakesPipesAndSocketsOnly) {
  Negotiate();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &signals, nullptr), 0);
  const UniqueFd thief(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  ASSERT_EQ(raise(SIGUSR1), 0);
  const UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  for (const int fd : {thief.get(), timer.get(), guest_.fd()}) {
    for (const auto direction : {TransferDirection::kSave, TransferDirection::kLoad}) {
      const auto reply = Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = direction, .phase = TransferPhase::kStopped}, {fd});
      ASSERT_TRUE(reply.ok());
      EXPECT_NE(*reply & ~kReplyNoFd, 0U);
    }
    ExpectRefused(Ask<FrontendRequest::kSetVringKick>(0, {fd}));
    ExpectRefused(Ask<FrontendRequest::kSetVringCall>(0, {fd}));
    ExpectRefused(Ask<FrontendRequest::kSetVringErr>(0, {fd}));
    ExpectRefused(Ask<FrontendRequest::kSetLogFd>({}, {fd}));
  }
  for (int i = 0; i < 3; i++) Run();
  signalfd_siginfo info = {};
  EXPECT_EQ(read(thief.get(), &info, sizeof(info)), ssize_t{sizeof(info)}) << "it has gone";
  ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &signals, nullptr), 0);

  // QEMU sends pipes; others may use sockets.
  std::array<int, 2> ends;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd ours(ends[0]), theirs(ends[1]);
  device_.state = "small";
  EXPECT_EQ(*Ask<FrontendRequest::kSetDeviceStateFd>(
                {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped},
                {theirs.get()}),
            kReplyNoFd);
  EXPECT_EQ(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
}

// The front-end starts a virtqueue after SET_DEVICE_STATE_FD, before the state has come.
TEST_F(StateTransferTest, LoadsNothingWhileVirtqueuesWork) {
  Negotiate();
  SetTable();
  const std::string before = device_.state;
  std::array<int, 2> ends;
  ASSERT_EQ(pipe(ends.data()), 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  ASSERT_EQ(
      *Ask<FrontendRequest::kSetDeviceStateFd>(
          {.direction = TransferDirection::kLoad, .phase = TransferPhase::kStopped}, {in.get()}),
      kReplyNoFd);
  StartQueue();
  Run();
  ASSERT_NE(backend_->queue(0), nullptr);
  ASSERT_EQ(write(out.get(), "loaded", 6), 6);
  out.reset();
  EXPECT_NE(*Ask<FrontendRequest::kCheckDeviceState>(), 0U);
  EXPECT_EQ(device_.state, before);
  EXPECT_TRUE(session_.ok()) << session_;
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
