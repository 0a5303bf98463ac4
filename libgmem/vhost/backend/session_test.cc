// SPDX-License-Identifier: MIT OR Apache-2.0
// A loop without work must sleep, even if the front-end misbehaves.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <utility>

#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/device.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::BackendTest;

// Does the loop sleep after some rounds?
bool IsQuiet(Backend& backend) {
  for (int i = 0; i < 5; i++) EXPECT_TRUE(backend.Process().ok());
  pollfd poll_fd = {.fd = backend.fd(), .events = POLLIN, .revents = 0};
  return poll(&poll_fd, 1, 0) == 0;
}

class SessionTest : public BackendTest {};

TEST_F(SessionTest, SleepsWhileTheFrontendDoesNotReadItsReplies) {
  backend_.reset();
  std::array<int, 2> sockets;
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()), 0);
  const UniqueFd peer(sockets[0]);
  auto backend = Backend::Create(*Connection::Adopt(UniqueFd(sockets[1])), device_);
  ASSERT_TRUE(backend.ok());
  const MessageHeader header = {
      .request = static_cast<uint32_t>(FrontendRequest::kGetFeatures), .flags = 1, .size = 0};
  // Fill both directions.
  int nr_sent = 0;
  while (doubles::SendRaw(peer.get(), AsBytes(header), {}, MSG_DONTWAIT) > 0) {
    ASSERT_TRUE((*backend)->Process().ok());
    nr_sent++;
  }
  EXPECT_TRUE(IsQuiet(**backend));
  // When the test reads, the back-end goes on.
  int nr_replies = 0;
  std::array<uint8_t, sizeof(MessageHeader) + sizeof(uint64_t)> reply;
  for (int i = 0; i < 10 * nr_sent && nr_replies < nr_sent; i++) {
    ASSERT_TRUE((*backend)->Process().ok());
    while (recv(peer.get(), reply.data(), reply.size(), MSG_DONTWAIT) == ssize_t{reply.size()}) {
      nr_replies++;
    }
  }
  EXPECT_EQ(nr_replies, nr_sent);
}

// The front-end keeps both ends of the channel open, so that no end of file comes.
TEST_F(SessionTest, SleepsBehindAChannelThatHasEnded) {
  Negotiate();
  auto pair = Connection::Pair();
  ASSERT_TRUE(Ask<FrontendRequest::kSetBackendReqFd>({}, {pair->second.get()}).ok());
  // A reply that nobody has asked for.
  const MessageHeader bad = {.request = 9, .flags = 5, .size = 0};
  ASSERT_GT(doubles::SendRaw(pair->first.fd(), AsBytes(bad)), 0);
  Run();
  EXPECT_FALSE(backend_->has_channel());
  ASSERT_GT(doubles::SendRaw(pair->first.fd(), AsBytes(bad)), 0);
  EXPECT_TRUE(IsQuiet(*backend_));
  // The next channel works.
  OpenChannel();
  EXPECT_TRUE(backend_->has_channel());
}

TEST_F(SessionTest, DisconnectsOnlyAfterConnected) {
  backend_.reset();
  EXPECT_EQ(device_.sessions, 0);
  auto pair = Connection::Pair();
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_FALSE(Backend::Create(*Connection::Adopt(std::move(pair->second)), device_).ok());
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(device_.sessions, 0);
}

}  // namespace
}  // namespace gmem::vhost
