// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/connection.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::CountOpenFds;

// Sends all bytes: the socket has room for them.
void SendRaw(int socket, absl::Span<const uint8_t> bytes, absl::Span<const int> fds = {}) {
  ASSERT_EQ(doubles::SendRaw(socket, bytes, fds), static_cast<ssize_t>(bytes.size()));
}

std::vector<uint8_t> Bytes(const MessageHeader& header, absl::Span<const uint8_t> payload = {}) {
  std::vector<uint8_t> bytes(sizeof(header) + payload.size());
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::copy(payload.begin(), payload.end(), bytes.begin() + sizeof(header));
  return bytes;
}

class ConnectionTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pair = Connection::Pair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    connection_ = std::move(pair->first);
    peer_ = std::move(pair->second);
  }

  Connection connection_;
  UniqueFd peer_;
  Message message_;
};

TEST_F(ConnectionTest, CarriesPayloadAndDescriptors) {
  auto other = Connection::Adopt(std::move(peer_));
  ASSERT_TRUE(other.ok()) << other.status();
  const UniqueFd event(eventfd(7, EFD_CLOEXEC));
  const uint64_t number = 0x1122334455667788;
  const auto sent = connection_.Send(12, kVersion, AsBytes(number), {event.get()});
  ASSERT_TRUE(sent.ok() && *sent) << sent.status();

  const auto received = other->Receive(message_);
  ASSERT_TRUE(received.ok() && *received) << received.status();
  EXPECT_EQ(message_.header.request, 12U);
  EXPECT_EQ(message_.header.flags, kVersion);
  EXPECT_EQ(FromBytes<uint64_t>(message_.bytes()), number);
  ASSERT_EQ(message_.fds.size(), 1U);
  uint64_t value = 0;
  ASSERT_EQ(read(message_.fds.get(0), &value, sizeof(value)), 8);
  EXPECT_EQ(value, 7U);
  EXPECT_NE(fcntl(message_.fds.get(0), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(ConnectionTest, AnEmptySocketHasNoMessage) {
  const auto received = connection_.Receive(message_);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_FALSE(*received);
}

TEST_F(ConnectionTest, MessagesDontRunIntoEachOther) {
  const std::array<uint8_t, 3> payload = {1, 2, 3};
  std::vector<uint8_t> bytes = Bytes({.request = 1, .flags = 1, .size = 3}, payload);
  const std::vector<uint8_t> second = Bytes({.request = 2, .flags = 1, .size = 0});
  bytes.insert(bytes.end(), second.begin(), second.end());
  SendRaw(peer_.get(), bytes);
  ASSERT_TRUE(*connection_.Receive(message_));
  EXPECT_EQ(message_.header.request, 1U);
  EXPECT_EQ(message_.bytes(), absl::MakeConstSpan(payload));
  ASSERT_TRUE(*connection_.Receive(message_));
  EXPECT_EQ(message_.header.request, 2U);
  EXPECT_TRUE(message_.bytes().empty());
  EXPECT_FALSE(*connection_.Receive(message_));
}

// A message may come in pieces, cut at any byte.
TEST_F(ConnectionTest, AMessageMayComeInPieces) {
  const uint64_t number = 42;
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const std::vector<uint8_t> bytes = Bytes({.request = 12, .flags = 1, .size = 8}, AsBytes(number));
  for (size_t cut = 1; cut < bytes.size(); cut++) {
    SCOPED_TRACE(cut);
    SendRaw(peer_.get(), absl::MakeConstSpan(bytes).first(cut), {event.get()});
    const auto half = connection_.Receive(message_);
    ASSERT_TRUE(half.ok()) << half.status();
    EXPECT_FALSE(*half);
    SendRaw(peer_.get(), absl::MakeConstSpan(bytes).subspan(cut));
    const auto whole = connection_.Receive(message_);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_TRUE(*whole);
    EXPECT_EQ(FromBytes<uint64_t>(message_.bytes()), number);
    EXPECT_EQ(message_.fds.size(), 1U);
  }
}

TEST_F(ConnectionTest, ReportsAPeerThatDiesAtAnyByte) {
  const uint64_t number = 42;
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const std::vector<uint8_t> bytes = Bytes({.request = 12, .flags = 1, .size = 8}, AsBytes(number));
  const size_t fds_before = CountOpenFds();
  for (size_t cut = 0; cut < bytes.size(); cut++) {
    SCOPED_TRACE(cut);
    auto pair = Connection::Pair();
    ASSERT_TRUE(pair.ok());
    Message message;
    if (cut > 0) {
      SendRaw(pair->second.get(), absl::MakeConstSpan(bytes).first(cut), {event.get()});
    }
    pair->second.reset();
    auto received = pair->first.Receive(message);
    if (received.ok()) received = pair->first.Receive(message);
    EXPECT_EQ(received.status().code(), absl::StatusCode::kUnavailable) << received.status();
    EXPECT_EQ(GetErrno(received.status()), ECONNRESET);
  }
  EXPECT_EQ(CountOpenFds(), fds_before);
}

TEST_F(ConnectionTest, RefusesAPayloadThatIsTooLarge) {
  SendRaw(peer_.get(), Bytes({.request = 1, .flags = 1, .size = kMaxPayloadSize + 1}));
  const auto received = connection_.Receive(message_);
  EXPECT_EQ(received.status().code(), absl::StatusCode::kDataLoss) << received.status();
}

TEST_F(ConnectionTest, SurplusDescriptorsAreNeverReceived) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const size_t fds_before = CountOpenFds();
  const std::vector<int> many(doubles::kMostFds, event.get());
  SendRaw(peer_.get(), Bytes({.request = 5, .flags = 1, .size = 0}), many);
  const auto received = connection_.Receive(message_);
  EXPECT_EQ(received.status().code(), absl::StatusCode::kDataLoss) << received.status();
  message_.fds.Clear();
  EXPECT_EQ(CountOpenFds(), fds_before);
}

// The peer did nothing wrong.
TEST_F(ConnectionTest, SaysThatThisProcessHasTooManyDescriptors) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  SendRaw(peer_.get(), Bytes({.request = 5, .flags = 1, .size = 0}), {event.get(), event.get()});
  const doubles::NoMoreFds none;
  const auto received = connection_.Receive(message_);
  EXPECT_EQ(GetErrno(received.status()), EMFILE) << received.status();
}

TEST_F(ConnectionTest, RefusesDescriptorsInTheMiddle) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const uint64_t number = 42;
  const std::vector<uint8_t> bytes = Bytes({.request = 12, .flags = 1, .size = 8}, AsBytes(number));
  for (const size_t cut : {sizeof(MessageHeader), bytes.size() - 1}) {
    SCOPED_TRACE(cut);
    SetUp();
    SendRaw(peer_.get(), absl::MakeConstSpan(bytes).first(cut));
    SendRaw(peer_.get(), absl::MakeConstSpan(bytes).subspan(cut), {event.get()});
    const size_t fds_before = CountOpenFds();
    const auto received = connection_.Receive(message_);
    EXPECT_EQ(received.status().code(), absl::StatusCode::kDataLoss) << received.status();
    EXPECT_EQ(CountOpenFds(), fds_before);
  }
}

TEST_F(ConnectionTest, APeerThatDoesntReadDoesntBlock) {
  const std::vector<uint8_t> payload(kMaxPayloadSize, 0x5a);
  size_t sent_messages = 0;
  while (true) {
    const auto sent = connection_.Send(44, kVersion, payload);
    ASSERT_TRUE(sent.ok()) << sent.status();
    if (!*sent) break;
    sent_messages++;
    ASSERT_LT(sent_messages, 100000U);
  }
  // When the peer reads again, every message that counted as sent arrives.
  auto other = Connection::Adopt(std::move(peer_));
  ASSERT_TRUE(other.ok());
  size_t received_messages = 0;
  while (true) {
    ASSERT_TRUE(connection_.Flush().ok());
    const auto received = other->Receive(message_);
    ASSERT_TRUE(received.ok()) << received.status();
    if (!*received) {
      if (!connection_.has_unsent()) break;
      continue;
    }
    EXPECT_EQ(message_.bytes(), absl::MakeConstSpan(payload));
    received_messages++;
  }
  EXPECT_EQ(received_messages, sent_messages);
}

// A socket that takes only part of a message, because its buffer is smaller than the message.
TEST_F(ConnectionTest, TheRestOfAMessageFollows) {
  auto other = Connection::Adopt(std::move(peer_));
  ASSERT_TRUE(other.ok());
  const std::vector<uint8_t> payload(kMaxPayloadSize, 0x5a);
  size_t sent_messages = 0;
  size_t received_messages = 0;
  while (sent_messages < 1000) {
    const auto sent = connection_.Send(44, kVersion, payload);
    ASSERT_TRUE(sent.ok()) << sent.status();
    if (*sent) {
      sent_messages++;
      continue;
    }
    const auto received = other->Receive(message_);
    ASSERT_TRUE(received.ok()) << received.status();
    if (*received) received_messages++;
  }
  while (received_messages < sent_messages) {
    ASSERT_TRUE(connection_.Flush().ok());
    const auto received = other->Receive(message_);
    ASSERT_TRUE(received.ok()) << received.status();
    if (*received) {
      ASSERT_EQ(message_.bytes(), absl::MakeConstSpan(payload));
      received_messages++;
    }
  }
}

TEST_F(ConnectionTest, SendingToADeadPeerFails) {
  peer_.reset();
  const auto sent = connection_.Send(1, kVersion, {});
  EXPECT_EQ(sent.status().code(), absl::StatusCode::kUnavailable) << sent.status();
}

TEST_F(ConnectionTest, RefusesToSendAnOversizedMessage) {
  const std::vector<uint8_t> payload(kMaxPayloadSize + 1);
  EXPECT_EQ(connection_.Send(1, kVersion, payload).status().code(),
            absl::StatusCode::kInvalidArgument);
  const std::vector<int> fds(kMaxFds + 1, peer_.get());
  EXPECT_EQ(connection_.Send(1, kVersion, {}, fds).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConnectionAdoptTest, TakesUnixStreamSocketsOnly) {
  EXPECT_EQ(GetErrno(Connection::Adopt(UniqueFd()).status()), EBADF);
  EXPECT_FALSE(Connection::Adopt(UniqueFd(eventfd(0, 0))).ok());
  EXPECT_FALSE(Connection::Adopt(UniqueFd(socket(AF_UNIX, SOCK_DGRAM, 0))).ok());
  EXPECT_FALSE(Connection::Adopt(UniqueFd(socket(AF_INET, SOCK_STREAM, 0))).ok());
}

class ListenerTest : public testing::Test {
 protected:
  ListenerTest() : path_(testing::TempDir() + "gmem-listener." + std::to_string(getpid())) {}
  ~ListenerTest() override { unlink(path_.c_str()); }

  const std::string path_;
};

TEST_F(ListenerTest, AcceptsAndRemovesItsPath) {
  {
    auto listener = Listener::Create(path_);
    ASSERT_TRUE(listener.ok()) << listener.status();
    const auto nobody = listener->Accept();
    ASSERT_TRUE(nobody.ok()) << nobody.status();
    EXPECT_FALSE(nobody->has_value());

    auto client = Connection::Connect(path_);
    ASSERT_TRUE(client.ok()) << client.status();
    auto server = listener->Accept();
    ASSERT_TRUE(server.ok() && server->has_value()) << server.status();
    ASSERT_TRUE(*client->Send(3, kVersion, {}));
    Message message;
    EXPECT_TRUE(*(*server)->Receive(message));
    EXPECT_EQ(message.header.request, 3U);
  }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ListenerTest, ReplacesAnAbandonedSocket) {
  auto first = Listener::Create(path_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(GetErrno(Listener::Create(path_).status()), EADDRINUSE);
  // The state after a killed program: the path exists, but nobody listens.
  const std::string kept = path_ + ".kept";
  std::filesystem::rename(path_, kept);
  { auto moved = std::move(*first); }
  std::filesystem::rename(kept, path_);
  EXPECT_TRUE(Listener::Create(path_).ok());
}

// Another listener has bound its socket, and doesn't listen yet.
TEST_F(ListenerTest, LeavesASocketThatIsBeingMade) {
  const std::string folder = std::filesystem::path(path_).parent_path();
  UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  const UniqueFd first(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path_.copy(address.sun_path, path_.size());
  ASSERT_EQ(bind(first.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  absl::Status status;
  std::thread second([&] { status = Listener::Create(path_).status(); });
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(listen(first.get(), 1), 0);
  lock.reset();
  second.join();
  EXPECT_EQ(GetErrno(status), EADDRINUSE) << status;
  EXPECT_TRUE(Connection::Connect(path_).ok());
  unlink(path_.c_str());
}

// Another program may hold the lock for another reason: the listener starts all the same.
TEST_F(ListenerTest, WaitsForTheLockForAWhileOnly) {
  const std::string folder = std::filesystem::path(path_).parent_path();
  const UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_TRUE(Listener::Create(path_).ok());
}

TEST_F(ListenerTest, LeavesTheSocketThatReplacedItsOwn) {
  auto first = Listener::Create(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  unlink(path_.c_str());
  auto second = Listener::Create(path_);
  ASSERT_TRUE(second.ok()) << second.status();
  { auto moved = std::move(*first); }
  EXPECT_TRUE(Connection::Connect(path_).ok());
  // The identity of the file moves with the listener.
  { auto moved = std::move(*second); }
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// Another listener may replace the socket right when this one goes.
TEST_F(ListenerTest, RemovesItsSocketUnderTheLock) {
  auto first = Listener::Create(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string folder = std::filesystem::path(path_).parent_path();
  UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  std::thread end([&] { auto moved = std::move(*first); });
  absl::SleepFor(absl::Milliseconds(50));
  ASSERT_EQ(rename(path_.c_str(), (path_ + ".old").c_str()), 0);
  const UniqueFd file(open(path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  lock.reset();
  end.join();
  EXPECT_TRUE(std::filesystem::exists(path_));
  unlink((path_ + ".old").c_str());
}

TEST_F(ListenerTest, LeavesAFileAlone) {
  const UniqueFd file(open(path_.c_str(), O_CREAT | O_RDWR, 0600));
  const absl::Status status = Listener::Create(path_).status();
  EXPECT_EQ(GetErrno(status), EADDRINUSE);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("it is a regular file, not a socket"));
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(ListenerTest, ConnectSaysWhatIsNoSocket) {
  const UniqueFd file(open(path_.c_str(), O_CREAT | O_RDWR, 0600));
  // It doesn't wait for a listener there.
  const absl::Status status = Connection::Connect(path_, absl::InfiniteDuration()).status();
  EXPECT_EQ(GetErrno(status), ECONNREFUSED);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("it is a regular file, not a socket"));
  const absl::Status folder = Connection::Connect(testing::TempDir()).status();
  EXPECT_THAT(std::string(folder.message()), testing::HasSubstr("it is a folder, not a socket"));
}

TEST_F(ListenerTest, ConnectWaitsForIt) {
  const absl::Time start = absl::Now();
  EXPECT_EQ(GetErrno(Connection::Connect(path_, absl::Milliseconds(50)).status()), ENOENT);
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(30));
  EXPECT_FALSE(Connection::Connect("").ok());
  EXPECT_FALSE(Connection::Connect(std::string(200, 'x')).ok());
}

}  // namespace
}  // namespace gmem::vhost
