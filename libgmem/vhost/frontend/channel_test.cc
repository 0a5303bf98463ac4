// SPDX-License-Identifier: MIT OR Apache-2.0
// Back-ends that answer wrongly, late, in halves or not at all.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmem/status.h"
#include "gmem/vhost/frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/frontend.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;
using doubles::FakeBackend;
using doubles::FrontendTest;
using doubles::kPatience;
using doubles::kPatienceMilliseconds;
using doubles::MakeFile;
using doubles::RunUntil;
using doubles::RunUntilEnd;
using testing::ElementsAre;
using testing::HasSubstr;
using Request = FrontendRequest;

constexpr uint64_t kOffered = (uint64_t{1} << 23) - 1;

std::string Bytes(uint32_t request, uint32_t flags, const std::string& payload) {
  const MessageHeader header = {
      .request = request, .flags = flags, .size = static_cast<uint32_t>(payload.size())};
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + payload;
}

class ChannelTest : public FrontendTest {
 protected:
  bool RunUntilEndOfBackendChannel() {
    return RunUntil(*frontend_, [this] { return !frontend_->backend_channel_status().ok(); });
  }
  // A back-end whose answer to GET_STATUS is @handler's.
  void StartWith(FakeBackend::Handler handler, absl::Duration timeout = kPatience) {
    FakeBackend::Options options = {.protocol_features = kOffered};
    options.handlers[Request::kGetStatus] = std::move(handler);
    Frontend::Options mine = AllOptions();
    mine.timeout = timeout;
    StartNegotiated(std::move(options), std::move(mine));
  }
};

TEST_F(ChannelTest, WrongReplies) {
  const std::string u64(8, '\0');
  constexpr uint32_t kStatus = 40;
  const std::vector<std::string> wrong = {
      Bytes(39, 5, u64),                           // another request's
      Bytes(kStatus, 1, u64),                      // no reply
      Bytes(kStatus, 6, u64),                      // another version
      Bytes(kStatus, 0x15, u64),                   // an unknown flag
      Bytes(kStatus, 5, ""),                       // short
      Bytes(kStatus, 5, u64 + u64),                // long
      Bytes(kStatus, 5, std::string(2056, '\0')),  // the longest payload
      Bytes(kStatus, 5, u64).substr(0, 8) + std::string("\xff\xff\xff\xff", 4),
  };
  for (size_t i = 0; i < wrong.size(); i++) {
    StartWith([reply = wrong[i]](FakeBackend& b, Message&) { b.SendRaw(reply); });
    const absl::Status status = frontend_->GetStatus().status();
    EXPECT_EQ(GetErrno(status), EBADMSG) << i << ": " << status;
    EXPECT_EQ(frontend_->status(), status);
    EXPECT_THAT(handler_.Take(), ElementsAre("end"));
  }
}

TEST_F(ChannelTest, ReplyWithoutARequest) {
  StartWith([](FakeBackend& b, Message& message) {
    b.Answer(message);
    b.Answer(message);
  });
  EXPECT_TRUE(frontend_->GetStatus().ok());
  EXPECT_TRUE(RunUntilEnd(*frontend_));
  EXPECT_EQ(GetErrno(frontend_->status()), EBADMSG);
}

TEST_F(ChannelTest, ARefusalDoesntEndTheConnection) {
  FakeBackend::Options options = {.protocol_features = kOffered};
  options.handlers[Request::kNetSetMtu] = [](FakeBackend& b, Message& message) {
    b.Reply(message, AsBytes(uint64_t{22}));
  };
  StartNegotiated(std::move(options));
  const absl::Status status = frontend_->SetMtu(1);
  EXPECT_EQ(GetErrno(status), EIO);
  EXPECT_THAT(std::string(status.message()), HasSubstr("NET_SET_MTU"));
  EXPECT_TRUE(frontend_->GetStatus().ok());
}

TEST_F(ChannelTest, SurplusDescriptorsAreClosed) {
  const UniqueFd file = MakeFile(ByteSize(4096));
  for (const size_t count : {1u, 8u, 9u, 253u}) {
    StartWith([&](FakeBackend& b, Message&) {
      b.SendRaw(Bytes(40, 5, std::string(8, '\0')), std::vector<int>(count, file.get()));
    });
    EXPECT_EQ(GetErrno(frontend_->GetStatus().status()), EBADMSG) << count;
    // Close the back-end's descriptors, too.
    backend_.reset();
    frontend_.reset();
    const size_t before = CountOpenFds();
    StartWith([](FakeBackend& b, Message& message) { b.Answer(message); });
    backend_.reset();
    frontend_.reset();
    EXPECT_EQ(CountOpenFds(), before) << count;
  }
}

TEST_F(ChannelTest, Timeouts) {
  // A back-end that never answers, and one that never ends its message.
  for (const char* const answer : {"", "abc"}) {
    FakeBackend::Options options;
    options.handlers[Request::kGetFeatures] = [=](FakeBackend& b, Message&) { b.SendRaw(answer); };
    Start(std::move(options), WithTimeout(absl::Milliseconds(300)));
    EXPECT_EQ(GetErrno(frontend_->Negotiate()), ETIMEDOUT);
    EXPECT_EQ(GetErrno(frontend_->status()), ETIMEDOUT);
  }
  // A back-end that sends requests all the time. The timeout must be long enough to negotiate.
  StartWith(
      [](FakeBackend& b, Message&) {
        const absl::Time until = absl::Now() + kPatience;
        while (absl::Now() < until && b.Ask(BackendRequest::kConfigChangeMsg, {}) == 0) {
        }
      },
      absl::Seconds(3));
  EXPECT_EQ(GetErrno(frontend_->GetStatus().status()), ETIMEDOUT);
}

// An owner's loop that calls no method that waits.
TEST_F(ChannelTest, AsynchronousWithDeadline) {
  FakeBackend::Options options;
  options.handlers[Request::kGetStatus] = [](FakeBackend&, Message&) {};
  Start(std::move(options), WithTimeout(absl::Milliseconds(300)));
  absl::Status status;
  EXPECT_EQ(frontend_->next_deadline(), absl::InfiniteFuture());
  frontend_->Start<Request::kGetStatus>(
      {}, {}, [&](const absl::StatusOr<Message*>& reply) { status = reply.status(); });
  EXPECT_LT(doubles::TimeLeft(*frontend_), kPatience);
  const absl::Time give_up = absl::Now() + kPatience;
  while (frontend_->Process().ok() && absl::Now() < give_up) {
    absl::SleepFor(frontend_->next_deadline() - absl::Now());
  }
  EXPECT_EQ(GetErrno(status), ETIMEDOUT);
}

// The back-end closes the connection right after its last answer before the back-end channel is
// made: fd() mustn't stay readable for ever. A hundred tries, since both must arrive at once.
TEST_F(ChannelTest, EndRightAfterAnAnswer) {
  for (int i = 0; i < 100; i++) {
    FakeBackend::Options options = {.protocol_features = kOffered};
    options.handlers[Request::kGetMaxMemSlots] = [](FakeBackend& b, Message& message) {
      b.Answer(message);
      b.Close();
    };
    Start(std::move(options), AllOptions());
    EXPECT_FALSE(frontend_->Negotiate().ok());
    EXPECT_FALSE(frontend_->Process().ok());
    pollfd polled = {.fd = frontend_->fd(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&polled, 1, 0), 0) << i;
  }
}

TEST_F(ChannelTest, FdTellsWhenToProcess) {
  StartWith([](FakeBackend& b, Message& message) { b.Answer(message); });
  const auto is_ready = [this](int timeout) {
    pollfd polled = {.fd = frontend_->fd(), .events = POLLIN, .revents = 0};
    return poll(&polled, 1, timeout) == 1;
  };
  EXPECT_FALSE(is_ready(0));
  int done = 0;
  // More requests than may be under way at a time.
  for (int i = 0; i < 100; i++) {
    frontend_->Start<Request::kGetStatus>(
        {}, {}, [&](const absl::StatusOr<Message*>& reply) { done += reply.ok(); });
  }
  while (done < 100) {
    ASSERT_TRUE(is_ready(kPatienceMilliseconds));
    ASSERT_TRUE(frontend_->Process().ok());
  }
  EXPECT_FALSE(is_ready(0));
  backend_->Post([](FakeBackend& b) { b.Send(BackendRequest::kConfigChangeMsg, {}); });
  EXPECT_TRUE(is_ready(kPatienceMilliseconds));
  EXPECT_TRUE(frontend_->Process().ok());
  EXPECT_THAT(handler_.Take(), ElementsAre("config"));
}

// The back-end dies after each byte of its answer.
TEST_F(ChannelTest, DeathAtEachByte) {
  const std::string answer = Bytes(40, 5, std::string(8, '\0'));
  for (size_t n = 0; n < answer.size(); n++) {
    StartWith([&](FakeBackend& b, Message&) {
      b.SendRaw(answer.substr(0, n));
      b.Close();
    });
    EXPECT_EQ(GetErrno(frontend_->GetStatus().status()), ECONNRESET) << n;
    EXPECT_EQ(frontend_->shmem().nr_mappings(), 0u);
  }
}

// An answer that comes byte by byte is an answer.
TEST_F(ChannelTest, ByteByByte) {
  StartWith([&](FakeBackend& b, Message&) {
    for (const char byte : Bytes(40, 5, std::string("\x0f\0\0\0\0\0\0\0", 8))) {
      b.SendRaw(std::string(1, byte));
      absl::SleepFor(absl::Milliseconds(1));
    }
  });
  EXPECT_EQ(*frontend_->GetStatus(), 15);
}

// Garbage of any length on the back-end channel ends that channel; the main channel stays.
TEST_F(ChannelTest, HalfMessagesOnTheBackendChannel) {
  const std::string huge = Bytes(9, 9, "").substr(0, 8) + std::string("\xff\xff\xff\x7f", 4);
  StartWith([&](FakeBackend& b, Message& message) {
    b.SendRawToBackendChannel(huge);
    b.Answer(message);
  });
  EXPECT_TRUE(frontend_->GetStatus().ok());
  EXPECT_TRUE(RunUntilEndOfBackendChannel());
  EXPECT_EQ(GetErrno(frontend_->backend_channel_status()), EBADMSG);
  EXPECT_TRUE(frontend_->GetStatus().ok());

  const UniqueFd file = MakeFile(ByteSize(4096));
  const std::string map = Bytes(9, 9, std::string(40, '\0'));
  for (size_t n = 0; n < map.size(); n++) {
    StartWith([&](FakeBackend& b, Message& message) {
      const int fd = file.get();
      b.SendRawToBackendChannel(map.substr(0, n), {&fd, n == 0 ? 0u : 1u});
      b.CloseBackendChannel();
      b.Answer(message);
    });
    EXPECT_TRUE(frontend_->GetStatus().ok());
    EXPECT_TRUE(RunUntilEndOfBackendChannel());
  }
}

TEST_F(ChannelTest, DescriptorsOnTheBackendChannelAreClosed) {
  const UniqueFd file = MakeFile(ByteSize(4096));
  StartWith([](FakeBackend& b, Message& message) { b.Answer(message); });
  const size_t before = CountOpenFds();
  OnBackend([&](FakeBackend& b) {
    const std::vector<int> fds(8, file.get());
    EXPECT_NE(b.Ask(BackendRequest::kConfigChangeMsg, {}, fds), 0u);
    EXPECT_NE(b.Ask(BackendRequest(77), {}, fds), 0u);
    EXPECT_EQ(b.Ask(BackendRequest::kConfigChangeMsg, {}), 0u);
  });
  EXPECT_EQ(CountOpenFds(), before);
  OnBackend([&](FakeBackend& b) {
    b.SendRawToBackendChannel(Bytes(2, 9, ""), std::vector<int>(253, file.get()));
  });
  EXPECT_TRUE(RunUntilEndOfBackendChannel());
  EXPECT_LE(CountOpenFds(), before);
}

// Close() from a callback ends all requests under way.
TEST_F(ChannelTest, CloseFromACallback) {
  StartWith([](FakeBackend& b, Message& message) { b.Answer(message); });
  std::vector<absl::Status> done;
  for (int i = 0; i < 3; i++) {
    frontend_->Start<Request::kGetStatus>({}, {}, [&](const absl::StatusOr<Message*>& reply) {
      done.push_back(reply.status());
      frontend_->Close();
      EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Process()));
      EXPECT_TRUE(absl::IsFailedPrecondition(frontend_->Reconnect(Connection())));
    });
  }
  EXPECT_TRUE(RunUntilEnd(*frontend_));
  EXPECT_EQ(done.size(), 3u);
  EXPECT_TRUE(absl::IsCancelled(frontend_->status()));
  EXPECT_THAT(handler_.Take(), ElementsAre("end"));
}

TEST_F(ChannelTest, DestructionCancelsRequests) {
  StartWith([](FakeBackend&, Message&) {});
  absl::Status status;
  frontend_->Start<Request::kGetStatus>(
      {}, {}, [&](const absl::StatusOr<Message*>& reply) { status = reply.status(); });
  frontend_.reset();
  EXPECT_TRUE(absl::IsCancelled(status));
}

}  // namespace
}  // namespace gmem::vhost
