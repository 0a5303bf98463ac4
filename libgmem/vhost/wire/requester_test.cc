// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/requester.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/uptime.h"
#include "gmem/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"
#include "gtest/gtest.h"
#include "vhost/testing/socket.h"

namespace gmem::vhost {
namespace {

using doubles::kPatience;

// A requester, and a responder that answers when the test asks it to.
class RequesterTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pair = Connection::Pair();
    ASSERT_TRUE(pair.ok()) << pair.status();
    auto other = Connection::Adopt(std::move(pair->second));
    ASSERT_TRUE(other.ok()) << other.status();
    requester_ = std::make_unique<Requester>(std::move(pair->first), kPatience);
    responder_ = std::make_unique<Responder>(std::move(*other), Responder::Side::kFrontend);
  }

  void UseReplyAck() {
    requester_->set_reply_ack(true);
    responder_->set_reply_ack(true);
  }

  // A callback that keeps its result: a number, or the error.
  Requester::Done KeepNumber() {
    return [this](const absl::StatusOr<Message*>& reply) {
      if (!reply.ok()) {
        results_.emplace_back(reply.status());
      } else if (*reply == nullptr) {
        results_.emplace_back(0);
      } else {
        results_.emplace_back(FromBytes<uint64_t>((*reply)->bytes()));
      }
    };
  }

  Message* NextRequest() {
    auto next = responder_->Next();
    EXPECT_TRUE(next.ok()) << next.status();
    if (!next.ok() || next->message == nullptr) return nullptr;
    EXPECT_TRUE(next->status.ok()) << next->status;
    return next->message;
  }

  // Answers the next request with a number.
  void AnswerNext(uint64_t number) {
    ASSERT_NE(NextRequest(), nullptr);
    ASSERT_TRUE(responder_->Reply(AsBytes(number)).ok());
  }

  std::unique_ptr<Requester> requester_;
  std::unique_ptr<Responder> responder_;
  std::vector<absl::StatusOr<uint64_t>> results_;
};

TEST_F(RequesterTest, BringsTheReply) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  EXPECT_FALSE(requester_->is_idle());
  EXPECT_TRUE(results_.empty());
  AnswerNext(0x40000000);
  ASSERT_TRUE(requester_->Process().ok());
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0], absl::StatusOr<uint64_t>(0x40000000));
  EXPECT_TRUE(requester_->is_idle());
  EXPECT_EQ(requester_->next_deadline(), absl::InfiniteFuture());
}

TEST_F(RequesterTest, SeveralAtATimeMeetTheirReplies) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  requester_->Start<FrontendRequest::kGetProtocolFeatures>({}, {}, KeepNumber());
  requester_->Start<FrontendRequest::kGetQueueNum>({}, {}, KeepNumber());
  for (const uint64_t number : {1, 2, 3}) AnswerNext(number);
  ASSERT_TRUE(requester_->Process().ok());
  ASSERT_EQ(results_.size(), 3U);
  for (size_t i = 0; i < 3; i++) EXPECT_EQ(results_[i], absl::StatusOr<uint64_t>(i + 1));
}

TEST_F(RequesterTest, WithoutAcknowledgementsDoneMeansSent) {
  requester_->Start<FrontendRequest::kSetOwner>({}, {}, KeepNumber());
  EXPECT_EQ(results_.size(), 1U);
  Message* const message = NextRequest();
  ASSERT_NE(message, nullptr);
  EXPECT_FALSE(message->needs_reply());
  ASSERT_TRUE(responder_->Acknowledge(absl::OkStatus()).ok());
  ASSERT_TRUE(requester_->Process().ok());
}

TEST_F(RequesterTest, AcknowledgementSaysHowItWent) {
  UseReplyAck();
  requester_->Start<FrontendRequest::kSetVringNum>({.index = 1, .num = 7}, {}, KeepNumber());
  requester_->Start<FrontendRequest::kSetVringNum>({.index = 2, .num = 8}, {}, KeepNumber());
  requester_->Start<FrontendRequest::kSetVringNum>({.index = 3, .num = 8}, {}, KeepNumber(),
                                                   /*want_ack=*/false);
  EXPECT_EQ(results_.size(), 1U);  // Only the last request: it is sent.
  Message* message = NextRequest();
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(message->needs_reply());
  EXPECT_TRUE(responder_->can_refuse());
  EXPECT_EQ(FromBytes<VringState>(message->bytes()).num, 7U);
  ASSERT_TRUE(responder_->Acknowledge(absl::InvalidArgumentError("7")).ok());
  ASSERT_NE(NextRequest(), nullptr);
  ASSERT_TRUE(responder_->Acknowledge(absl::OkStatus()).ok());
  message = NextRequest();
  ASSERT_NE(message, nullptr);
  EXPECT_FALSE(responder_->can_refuse());
  ASSERT_TRUE(requester_->Process().ok());
  ASSERT_EQ(results_.size(), 3U);
  EXPECT_EQ(results_[1].status().code(), absl::StatusCode::kInternal) << results_[1].status();
  EXPECT_TRUE(results_[2].ok());
}

TEST_F(RequesterTest, DescriptorsGoBothWays) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  bool got_fd = false;
  requester_->Start<FrontendRequest::kSetDeviceStateFd>(
      {.direction = TransferDirection::kSave, .phase = TransferPhase::kStopped}, {event.get()},
      [&got_fd](const absl::StatusOr<Message*>& reply) {
        ASSERT_TRUE(reply.ok()) << reply.status();
        got_fd = (*reply)->fds.Take(0).is_valid();
      });
  Message* const message = NextRequest();
  ASSERT_NE(message, nullptr);
  EXPECT_EQ(message->fds.size(), 1U);
  const uint64_t none = 0;
  ASSERT_TRUE(responder_->Reply(AsBytes(none), {event.get()}).ok());
  ASSERT_TRUE(requester_->Process().ok());
  EXPECT_TRUE(got_fd);
}

TEST_F(RequesterTest, AWrongReplyEndsTheChannel) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  requester_->Start<FrontendRequest::kGetQueueNum>({}, {}, KeepNumber());
  ASSERT_NE(NextRequest(), nullptr);
  ASSERT_TRUE(responder_->Reply(AsBytes(uint32_t{1})).ok());
  EXPECT_EQ(requester_->Process().code(), absl::StatusCode::kDataLoss);
  ASSERT_EQ(results_.size(), 2U);
  for (const auto& result : results_) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  }
  // The channel stays closed.
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  EXPECT_EQ(results_.size(), 3U);
  EXPECT_EQ(requester_->fd(), -1);
}

TEST_F(RequesterTest, AReplyThatNobodyAskedForEndsTheChannel) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  AnswerNext(1);
  ASSERT_TRUE(responder_->Reply(AsBytes(uint64_t{2})).ok());
  EXPECT_EQ(requester_->Process().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(results_.size(), 1U);
}

TEST_F(RequesterTest, AMissedDeadlineEndsTheChannel) {
  auto pair = Connection::Pair();
  ASSERT_TRUE(pair.ok()) << pair.status();
  constexpr absl::Duration kShort = absl::Milliseconds(300);
  Requester requester(std::move(pair->first), kShort);
  EXPECT_EQ(requester.next_deadline(), absl::InfiniteFuture());
  const absl::Duration start = internal::Uptime();
  requester.Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  EXPECT_LE(requester.time_left(), kShort);
  while (requester.Process().ok() && internal::Uptime() - start < kPatience) {
    EXPECT_TRUE(results_.empty());
    absl::SleepFor(requester.time_left());
  }
  EXPECT_GE(internal::Uptime() - start, kShort);
  EXPECT_EQ(requester.status().code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_EQ(results_.size(), 1U);
}

TEST_F(RequesterTest, ADeadPeerFailsAllRequests) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  responder_.reset();
  EXPECT_EQ(requester_->Process().code(), absl::StatusCode::kUnavailable);
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RequesterTest, ExcessRequestsWaitInTheQueue) {
  constexpr size_t kMany = Requester::kMaxOutstanding + 10;
  for (size_t i = 0; i < kMany; i++) {
    requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  }
  // The requests wait for replies, not for the socket. A loop that polled for writability would
  // spin.
  EXPECT_FALSE(requester_->is_idle());
  EXPECT_FALSE(requester_->wants_write());
  for (uint64_t i = 0; i < kMany; i++) {
    AnswerNext(i);
    ASSERT_TRUE(requester_->Process().ok());
  }
  ASSERT_EQ(results_.size(), kMany);
  for (uint64_t i = 0; i < kMany; i++) EXPECT_EQ(results_[i], absl::StatusOr<uint64_t>(i));
  EXPECT_TRUE(requester_->is_idle());
}

// Only that request fails: no part of it was sent.
TEST_F(RequesterTest, ABadDescriptorFailsOnlyItsRequest) {
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, KeepNumber());
  for (const int bad : {-1, 1 << 20}) {
    requester_->Start<FrontendRequest::kGpuSetSocket>({}, {bad}, KeepNumber());
    EXPECT_EQ(GetErrno(results_.back().status()), EBADF);
  }
  AnswerNext(1);
  ASSERT_TRUE(requester_->Process().ok());
  ASSERT_EQ(results_.size(), 3U);
  EXPECT_TRUE(results_[2].ok());
}

// The peer reads nothing. Messages that the socket doesn't take wait, with their descriptors, up to
// the limit.
TEST_F(RequesterTest, AFullSocketDoesntEndTheChannel) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  size_t started = 0;
  while (results_.size() == started) {
    requester_->Start<FrontendRequest::kSetVringKick>(started & kVringIndexMask, {event.get()},
                                                      KeepNumber());
    started++;
    ASSERT_LT(started, 100000U);
  }
  const size_t sent = results_.size();
  for (size_t i = 1; i < Requester::kMaxQueued; i++) {
    requester_->Start<FrontendRequest::kSetVringKick>(started++ & kVringIndexMask, {event.get()},
                                                      KeepNumber());
  }
  EXPECT_EQ(results_.size(), sent);
  requester_->Start<FrontendRequest::kSetVringKick>(0, {event.get()}, KeepNumber());
  ASSERT_EQ(results_.size(), sent + 1);
  EXPECT_EQ(results_.back().status().code(), absl::StatusCode::kResourceExhausted);
  results_.pop_back();

  uint64_t received = 0;
  while (received < started) {
    if (const Message* const message = NextRequest()) {
      ASSERT_EQ(FromBytes<uint64_t>(message->bytes()), received & kVringIndexMask);
      ASSERT_EQ(message->fds.size(), 1U);
      received++;
    }
    ASSERT_TRUE(requester_->Process().ok());
  }
  EXPECT_EQ(results_.size(), started);
  for (const auto& result : results_) EXPECT_TRUE(result.ok()) << result.status();
}

// The descriptor of a waiting request can't become bad, but there may be too many descriptors in
// flight in the whole system. Here a bad descriptor stands in for that.
TEST_F(RequesterTest, AQueuedRequestThatCantBeSentFailsAlone) {
  for (int i = 0; !requester_->wants_write(); i++) {
    ASSERT_LT(i, 100000);
    requester_->Start<FrontendRequest::kSetOwner>({}, {},
                                                  [](const absl::StatusOr<Message*>& /*sent*/) {});
  }
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  // The number that the requester's copy of the descriptor will have.
  const int copy = dup(event.get());
  ASSERT_EQ(close(copy), 0);
  requester_->Start<FrontendRequest::kGpuSetSocket>({}, {event.get()}, KeepNumber());
  ASSERT_EQ(close(copy), 0);
  requester_->Start<FrontendRequest::kSetOwner>({}, {}, KeepNumber());
  while (requester_->wants_write()) {
    while (NextRequest() != nullptr) {
    }
    ASSERT_TRUE(requester_->Process().ok());
  }
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_EQ(GetErrno(results_[0].status()), EBADF);
  EXPECT_TRUE(results_[1].ok());
}

TEST_F(RequesterTest, CallbacksMayAskMore) {
  requester_->Start<FrontendRequest::kGetFeatures>(
      {}, {}, [this](const absl::StatusOr<Message*>& /*reply*/) {
        requester_->Start<FrontendRequest::kGetQueueNum>({}, {}, KeepNumber());
      });
  AnswerNext(1);
  ASSERT_TRUE(requester_->Process().ok());
  AnswerNext(2);
  ASSERT_TRUE(requester_->Process().ok());
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0], absl::StatusOr<uint64_t>(2));
}

TEST_F(RequesterTest, CallbacksMayClose) {
  requester_->Start<FrontendRequest::kGetFeatures>(
      {}, {}, [this](const absl::StatusOr<Message*>& /*reply*/) {
        requester_->Close(absl::CancelledError("enough"));
      });
  requester_->Start<FrontendRequest::kGetQueueNum>({}, {}, KeepNumber());
  AnswerNext(1);
  AnswerNext(2);
  EXPECT_EQ(requester_->Process().code(), absl::StatusCode::kCancelled);
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].status().code(), absl::StatusCode::kCancelled);
}

// The callback belongs to a request that had waited in the queue.
TEST_F(RequesterTest, QueuedCallbacksMayClose) {
  int called = 0;
  while (called == 0 || !requester_->wants_write()) {
    requester_->Start<FrontendRequest::kSetOwner>({}, {},
                                                  [](const absl::StatusOr<Message*>& /*reply*/) {});
    called++;
    ASSERT_LT(called, 100000);
  }
  int closed = 0;
  requester_->Start<FrontendRequest::kSetOwner>({}, {}, [&](const absl::StatusOr<Message*>& sent) {
    closed += sent.ok() ? 1 : 100;
    requester_->Close(absl::CancelledError("enough"));
  });
  requester_->Start<FrontendRequest::kSetOwner>({}, {}, KeepNumber());
  while (NextRequest() != nullptr) {
  }
  EXPECT_EQ(requester_->Process().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(closed, 1);
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_EQ(results_[0].status().code(), absl::StatusCode::kCancelled);
}

// A callback that starts the same request again at once gets the same error, and the recursion
// ends.
TEST_F(RequesterTest, ARetryInACallbackEnds) {
  responder_.reset();
  int calls = 0;
  std::function<void(absl::StatusOr<Message*>)> again = [&](const absl::StatusOr<Message*>& reply) {
    EXPECT_FALSE(reply.ok());
    if (++calls < 3) requester_->Start<FrontendRequest::kGetFeatures>({}, {}, again);
  };
  requester_->Start<FrontendRequest::kGetFeatures>({}, {}, again);
  EXPECT_EQ(calls, 3);
}

TEST_F(RequesterTest, MalformedRequestsAreRefusedWithAReason) {
  responder_ = nullptr;
  auto pair = Connection::Pair();
  ASSERT_TRUE(pair.ok());
  auto sender = Connection::Adopt(std::move(pair->second));
  ASSERT_TRUE(sender.ok());
  Responder responder(std::move(pair->first), Responder::Side::kBackend);
  responder.set_reply_ack(true);
  // The request is one byte too short; the channel still works.
  const ShmemMapping mapping = {};
  ASSERT_TRUE(*sender->Send(10, kVersion | kFlagNeedReply, AsBytes(mapping).first(39)));
  auto next = responder.Next();
  ASSERT_TRUE(next.ok()) << next.status();
  ASSERT_NE(next->message, nullptr);
  EXPECT_EQ(next->status.code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(responder.can_refuse());
  ASSERT_TRUE(responder.Acknowledge(next->status).ok());
  Message reply;
  ASSERT_TRUE(*sender->Receive(reply));
  EXPECT_NE(FromBytes<uint64_t>(reply.bytes()), 0U);
  EXPECT_EQ(reply.header.flags, kVersion | kFlagReply);
  // Send an unknown request.
  ASSERT_TRUE(*sender->Send(99, kVersion | kFlagNeedReply, {}));
  next = responder.Next();
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(responder.can_refuse());
}

// A reply that finds the socket full is sent before the responder takes another request.
TEST_F(RequesterTest, RepliesWaitForASlowPeer) {
  UseReplyAck();
  const std::vector<uint8_t> payload(kMaxPayloadSize, 1);
  // Send the requests first: they are small, so many fit.
  constexpr size_t kMany = 200;
  auto pair = Connection::Pair();
  ASSERT_TRUE(pair.ok());
  auto client = Connection::Adopt(std::move(pair->second));
  ASSERT_TRUE(client.ok());
  Responder responder(std::move(pair->first), Responder::Side::kFrontend);
  for (size_t i = 0; i < kMany; i++) {
    const auto sent = client->Send(44, kVersion, {});
    ASSERT_TRUE(sent.ok() && *sent);
  }
  size_t replied = 0;
  size_t received = 0;
  Message reply;
  bool was_full = false;
  while (received < kMany) {
    const auto next = responder.Next();
    ASSERT_TRUE(next.ok()) << next.status();
    if (next->message != nullptr) {
      ASSERT_TRUE(responder.Reply(payload).ok());
      replied++;
      continue;
    }
    was_full = was_full || (responder.wants_write() && replied < kMany);
    const auto got = client->Receive(reply);
    ASSERT_TRUE(got.ok()) << got.status();
    if (*got) received++;
  }
  EXPECT_TRUE(was_full);
  EXPECT_EQ(replied, kMany);
}

}  // namespace
}  // namespace gmem::vhost
