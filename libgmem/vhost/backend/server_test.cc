// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/backend.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "vhost/testing/device.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::NoMoreFds;
using doubles::TestDevice;

// Backend::Create() refuses it.
class BadDevice : public TestDevice {
 public:
  uint16_t nr_queues() const override { return 0; }
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() : folder_(std::filesystem::temp_directory_path() / "gmem-server-test.XXXXXX") {
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    path_ = folder_ + "/socket";
    Start(device_);
  }
  ~ServerTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Start(Device& device, const Server::Options& options = {}) {
    server_.reset();
    auto listener = Listener::Create(path_);
    ASSERT_TRUE(listener.ok()) << listener.status();
    auto server = Server::Create(*std::move(listener), device, options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_.emplace(*std::move(server));
    server_->set_session_end([this](const absl::Status& why) { ends_.push_back(why); });
  }
  std::unique_ptr<Requester> NewFrontend() const {
    auto connection = Connection::Connect(path_);
    EXPECT_TRUE(connection.ok()) << connection.status();
    return std::make_unique<Requester>(*std::move(connection));
  }
  // Does the server answer the front-end's request now?
  bool IsServed(Requester& frontend) {
    auto is_answered = std::make_shared<bool>(false);
    frontend.Start<FrontendRequest::kGetQueueNum>(
        {}, {},
        [is_answered](const absl::StatusOr<Message*>& reply) { *is_answered = reply.ok(); });
    for (int i = 0; i < 10 && !*is_answered; i++) {
      EXPECT_TRUE(server_->Process().ok());
      frontend.Process().IgnoreError();
    }
    return *is_answered;
  }
  bool IsReadable() const {
    pollfd poll_fd = {.fd = server_->fd(), .events = POLLIN, .revents = 0};
    return poll(&poll_fd, 1, 0) == 1;
  }

  std::string folder_;
  std::string path_;
  TestDevice device_;
  std::optional<Server> server_;
  std::vector<absl::Status> ends_;
};

TEST_F(ServerTest, ServesOneFrontendAfterTheOther) {
  EXPECT_FALSE(IsReadable());
  EXPECT_EQ(server_->backend(), nullptr);
  EXPECT_EQ(server_->next_deadline(), absl::InfiniteFuture());
  auto first = NewFrontend();
  EXPECT_TRUE(IsReadable());
  EXPECT_TRUE(IsServed(*first));
  EXPECT_EQ(device_.sessions, 1);
  EXPECT_NE(server_->backend(), nullptr);
  first.reset();
  EXPECT_TRUE(IsReadable());
  ASSERT_TRUE(server_->Process().ok());
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), ECONNRESET);
  EXPECT_EQ(device_.sessions, 0);
  EXPECT_FALSE(IsReadable());
  auto second = NewFrontend();
  EXPECT_TRUE(IsReadable());
  EXPECT_TRUE(IsServed(*second));
  EXPECT_EQ(device_.sessions, 1);
  server_.reset();
  EXPECT_EQ(device_.sessions, 0);
}

// A front-end that waits would seem to hang.
TEST_F(ServerTest, RefusesASecondFrontend) {
  auto first = NewFrontend();
  ASSERT_TRUE(IsServed(*first));
  for (int i = 0; i < 3; i++) {
    auto second = NewFrontend();
    EXPECT_TRUE(IsReadable());
    EXPECT_FALSE(IsServed(*second));
    EXPECT_EQ(GetErrno(second->status()), ECONNRESET) << second->status();
    EXPECT_FALSE(IsReadable());
  }
  ASSERT_EQ(ends_.size(), 1U) << "they can't flood a log";
  EXPECT_EQ(GetErrno(ends_[0]), EBUSY) << ends_[0];
  EXPECT_TRUE(IsServed(*first));
  EXPECT_EQ(device_.sessions, 1);
}

// The first one has closed its end, but the server hasn't seen that yet.
TEST_F(ServerTest, ServesTheNextFrontendWhenTheFirstHasGone) {
  auto first = NewFrontend();
  ASSERT_TRUE(IsServed(*first));
  // More requests than one round takes.
  for (int i = 0; i < 100; i++) {
    first->Start<FrontendRequest::kSetOwner>({}, {}, [](const absl::StatusOr<Message*>&) {});
  }
  first.reset();
  auto second = NewFrontend();
  EXPECT_TRUE(IsServed(*second));
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), ECONNRESET);
}

// A front-end that has closed only its sending end, and takes no answers, keeps its session. The
// next one must not keep the loop busy meanwhile.
TEST_F(ServerTest, SleepsWhileTheNextFrontendWaitsForAHalfClosedOne) {
  std::optional<Connection> first = *Connection::Connect(path_);
  const MessageHeader request = {
      .request = static_cast<uint32_t>(FrontendRequest::kGetFeatures), .flags = 1, .size = 0};
  // Until the server can't send its answers, and takes no more requests.
  for (int i = 0; i < 100000; i++) {
    if (doubles::SendRaw(first->fd(), AsBytes(request), {}, MSG_DONTWAIT) < 0) break;
    ASSERT_TRUE(server_->Process().ok());
  }
  ASSERT_EQ(shutdown(first->fd(), SHUT_WR), 0);
  auto second = NewFrontend();
  for (int i = 0; i < 3; i++) ASSERT_TRUE(server_->Process().ok());
  ASSERT_TRUE(ends_.empty()) << ends_[0];
  EXPECT_FALSE(IsReadable()) << "it would spin";
  first.reset();
  EXPECT_TRUE(IsServed(*second));
  EXPECT_EQ(ends_.size(), 1U);
}

// The front-end waits until there is room.
TEST_F(ServerTest, WaitsWhileDescriptorsAreShort) {
  auto first = NewFrontend();
  {
    const NoMoreFds none;
    for (int i = 0; i < 3; i++) {
      EXPECT_TRUE(server_->Process().ok());
      EXPECT_FALSE(IsReadable()) << "it would spin";
      ASSERT_LE(doubles::TimeLeft(*server_), absl::Seconds(1));
      absl::SleepFor(server_->next_deadline() - absl::Now());
    }
  }
  ASSERT_EQ(ends_.size(), 1U) << "reported once";
  EXPECT_EQ(GetErrno(ends_[0]), EMFILE) << ends_[0];
  EXPECT_TRUE(IsServed(*first));
  EXPECT_EQ(server_->next_deadline(), absl::InfiniteFuture());
  // A front-end that the server would refuse waits, too.
  auto second = NewFrontend();
  {
    const NoMoreFds none;
    EXPECT_TRUE(server_->Process().ok());
    EXPECT_FALSE(IsReadable());
  }
  EXPECT_TRUE(IsServed(*first));
}

// A connection that was taken can't wait: take it only if its session can begin.
TEST_F(ServerTest, WaitsWhileDescriptorsForASessionAreShort) {
  for (size_t left = 1; left < 3; left++) {
    auto first = NewFrontend();
    {
      const NoMoreFds few(left);
      EXPECT_TRUE(server_->Process().ok());
      EXPECT_FALSE(IsReadable()) << "it would spin";
    }
    absl::SleepFor(server_->next_deadline() - absl::Now());
    EXPECT_TRUE(IsServed(*first)) << left;
    first.reset();
    EXPECT_TRUE(server_->Process().ok());
    EXPECT_EQ(server_->backend(), nullptr);
  }
  auto last = NewFrontend();
  const NoMoreFds few(3);
  EXPECT_TRUE(server_->Process().ok());
  EXPECT_NE(server_->backend(), nullptr);
}

TEST_F(ServerTest, WaitsWhileDescriptorsForThreadsAreShort) {
  // Two virtqueues: two for each of them, and the session's four.
  constexpr size_t kFds = 1 + 2 * 2 + 4;
  Start(device_, {.has_queue_threads = true});
  auto first = NewFrontend();
  {
    const NoMoreFds few(kFds - 1);
    EXPECT_TRUE(server_->Process().ok());
    EXPECT_FALSE(IsReadable()) << "it would spin";
  }
  EXPECT_EQ(server_->backend(), nullptr);
  absl::SleepFor(server_->next_deadline() - absl::Now());
  const NoMoreFds enough(kFds);
  EXPECT_TRUE(server_->Process().ok());
  EXPECT_NE(server_->backend(), nullptr);
}

// The next front-end waits, and the loop sleeps, until the device's call has returned.
TEST_F(ServerTest, ASessionEndsWhenTheDevicesCallsHave) {
  Start(device_, {.has_queue_threads = true});
  auto first = NewFrontend();
  ASSERT_TRUE(IsServed(*first));
  // The session asks for it while no thread runs.
  device_.patience = absl::Milliseconds(20);
  ASSERT_TRUE(server_->Process().ok());
  std::atomic<bool> is_in_call = false;
  std::atomic<bool> is_blocked = true;
  server_->backend()->RunOnQueue(1, [&] {
    is_in_call = true;
    while (is_blocked) absl::SleepFor(absl::Milliseconds(1));
  });
  while (!is_in_call) absl::SleepFor(absl::Milliseconds(1));
  first.reset();
  ASSERT_TRUE(server_->Process().ok());
  absl::SleepFor(absl::Milliseconds(30));
  ASSERT_TRUE(server_->Process().ok());
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), ETIMEDOUT) << ends_[0];
  EXPECT_EQ(server_->backend(), nullptr);
  auto second = NewFrontend();
  ASSERT_TRUE(server_->Process().ok());
  EXPECT_FALSE(IsReadable()) << "it would spin";
  EXPECT_EQ(device_.sessions, 1);
  is_blocked = false;
  for (int i = 0; i < 1000 && !IsReadable(); i++) absl::SleepFor(absl::Milliseconds(1));
  device_.patience = doubles::kPatience;
  ASSERT_TRUE(server_->Process().ok());
  EXPECT_EQ(device_.sessions, 0);
  EXPECT_TRUE(IsServed(*second));
}

TEST_F(ServerTest, AShortageIsNoneWhileNobodyWaits) {
  const NoMoreFds none;
  EXPECT_TRUE(server_->Process().ok());
  EXPECT_TRUE(ends_.empty()) << ends_[0];
}

TEST_F(ServerTest, ABadSessionDoesNotEndTheServer) {
  const size_t before = CountOpenFds();
  for (int i = 0; i < 3; i++) {
    auto connection = Connection::Connect(path_);
    ASSERT_TRUE(connection.ok());
    const MessageHeader bad = {.request = 1, .flags = 2, .size = 0};
    ASSERT_GT(doubles::SendRaw(connection->fd(), AsBytes(bad)), 0);
    for (int j = 0; j < 3; j++) ASSERT_TRUE(server_->Process().ok());
  }
  ASSERT_EQ(ends_.size(), 3U);
  for (const absl::Status& end : ends_) EXPECT_EQ(GetErrno(end), EINVAL) << end;
  EXPECT_EQ(CountOpenFds(), before);
  EXPECT_TRUE(IsServed(*NewFrontend()));
}

TEST_F(ServerTest, ReportsASessionThatCannotBegin) {
  BadDevice device;
  Start(device);
  auto frontend = NewFrontend();
  EXPECT_FALSE(IsServed(*frontend));
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), EINVAL);
  EXPECT_EQ(device.sessions, 0);
  server_.reset();
}

TEST_F(ServerTest, EndsASessionThatLastsTooLong) {
  Start(device_, {.session_timeout = absl::Milliseconds(50)});
  EXPECT_EQ(server_->next_deadline(), absl::InfiniteFuture());
  auto first = NewFrontend();
  EXPECT_TRUE(IsServed(*first));
  ASSERT_LE(doubles::TimeLeft(*server_), absl::Milliseconds(50));
  absl::SleepFor(absl::Milliseconds(60));
  ASSERT_TRUE(server_->Process().ok());
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), ETIMEDOUT) << ends_[0];
  EXPECT_EQ(device_.sessions, 0);
  EXPECT_EQ(server_->next_deadline(), absl::InfiniteFuture());
  auto second = NewFrontend();
  EXPECT_TRUE(IsServed(*second));
}

TEST_F(ServerTest, ConnectsAndConnectsAgain) {
  server_.reset();
  auto server = Server::Connect(path_, device_, {.reconnect_interval = absl::Milliseconds(20)});
  ASSERT_TRUE(server.ok()) << server.status();
  server_.emplace(*std::move(server));
  server_->set_session_end([this](const absl::Status& why) { ends_.push_back(why); });
  // Nobody listens yet.
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(server_->Process().ok());
    ASSERT_LE(doubles::TimeLeft(*server_), absl::Milliseconds(20));
    absl::SleepFor(server_->next_deadline() - absl::Now());
  }
  ASSERT_EQ(ends_.size(), 1U) << "reported once";
  EXPECT_EQ(GetErrno(ends_[0]), ENOENT) << ends_[0];
  auto listener = Listener::Create(path_);
  ASSERT_TRUE(listener.ok()) << listener.status();
  for (int i = 0; i < 3; i++) {
    ASSERT_TRUE(server_->Process().ok());
    auto connection = listener->Accept();
    ASSERT_TRUE(connection.ok() && connection->has_value()) << i;
    auto frontend = std::make_unique<Requester>(**std::move(connection));
    EXPECT_TRUE(IsServed(*frontend));
    EXPECT_EQ(server_->next_deadline(), absl::InfiniteFuture());
    frontend.reset();
    EXPECT_TRUE(IsReadable());
    ASSERT_TRUE(server_->Process().ok());
    EXPECT_EQ(device_.sessions, 0);
    EXPECT_EQ(GetErrno(ends_.back()), ECONNRESET);
    // Not at once: the front-end may close each connection.
    ASSERT_TRUE(server_->Process().ok());
    ASSERT_FALSE(*listener->Accept());
    absl::SleepFor(server_->next_deadline() - absl::Now());
  }
  EXPECT_EQ(ends_.size(), 4U);
}

TEST_F(ServerTest, RefusesAPathThatNoSocketCanHave) {
  EXPECT_EQ(GetErrno(Server::Connect("", device_, {}).status()), EINVAL);
  EXPECT_EQ(GetErrno(Server::Connect(std::string(200, 'x'), device_, {}).status()), EINVAL);
}

TEST_F(ServerTest, RunsUntilItIsStopped) {
  const UniqueFd stop(eventfd(0, EFD_CLOEXEC));
  absl::Status status = absl::UnknownError("it hasn't run");
  std::thread thread([&] { status = server_->Run(stop.get()); });
  for (int i = 0; i < 3; i++) {
    auto frontend = NewFrontend();
    bool is_answered = false;
    frontend->Start<FrontendRequest::kGetQueueNum>(
        {}, {}, [&](const absl::StatusOr<Message*>& reply) { is_answered = reply.ok(); });
    while (!is_answered && frontend->status().ok()) {
      pollfd poll_fd = {.fd = frontend->fd(), .events = POLLIN, .revents = 0};
      EXPECT_EQ(poll(&poll_fd, 1, doubles::kPatienceMilliseconds), 1);
      frontend->Process().IgnoreError();
    }
    EXPECT_TRUE(is_answered) << i;
  }
  const uint64_t one = 1;
  EXPECT_EQ(write(stop.get(), &one, sizeof(one)), 8);
  thread.join();
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace gmem::vhost
