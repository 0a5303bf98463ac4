// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

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

  void Start(Device& device) {
    server_.reset();
    auto listener = Listener::Create(path_);
    ASSERT_TRUE(listener.ok()) << listener.status();
    auto server = Server::Create(*std::move(listener), device);
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
  // A front-end that waits doesn't wake the server.
  auto second = NewFrontend();
  EXPECT_FALSE(IsReadable());
  EXPECT_FALSE(IsServed(*second));
  EXPECT_TRUE(IsServed(*first));
  EXPECT_TRUE(ends_.empty());
  first.reset();
  EXPECT_TRUE(IsReadable());
  ASSERT_TRUE(server_->Process().ok());
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_EQ(GetErrno(ends_[0]), ECONNRESET);
  EXPECT_EQ(device_.sessions, 0);
  // The second front-end has already sent its request.
  EXPECT_TRUE(IsReadable());
  EXPECT_TRUE(IsServed(*second));
  EXPECT_EQ(device_.sessions, 1);
  server_.reset();
  EXPECT_EQ(device_.sessions, 0);
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
