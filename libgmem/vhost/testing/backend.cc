// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/testing/backend.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "gtest/gtest.h"

namespace gmem::vhost::doubles {
namespace {

absl::Span<const uint8_t> ToBytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

bool WaitReadable(int fd) {
  pollfd polled = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&polled, 1, kPatienceMilliseconds) == 1;
}

}  // namespace

FakeBackend::FakeBackend(UniqueFd socket, Options options)
    : options_(std::move(options)),
      main_(*Connection::Adopt(std::move(socket))),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Run(); }) {}

FakeBackend::~FakeBackend() {
  {
    MutexLock lock(&mutex_);
    stops_ = true;
  }
  Post([](FakeBackend&) {});
  thread_.join();
}

void FakeBackend::Sync() {
  const auto done = std::make_shared<std::atomic<bool>>(false);
  Post([done](FakeBackend&) { *done = true; });
  const absl::Time give_up = absl::Now() + kPatience;
  while (!*done && !is_over_) {
    if (absl::Now() > give_up) {
      ADD_FAILURE() << "the back-end's task doesn't end";
      return;
    }
    std::this_thread::yield();
  }
}

std::vector<Received> FakeBackend::received() {
  Sync();
  MutexLock lock(&mutex_);
  return received_;
}

Received FakeBackend::Last(FrontendRequest request) {
  Sync();
  MutexLock lock(&mutex_);
  for (auto it = received_.rbegin(); it != received_.rend(); ++it) {
    if (it->request == request) return *it;
  }
  return {.request = FrontendRequest(0), .flags = 0, .payload = "none came", .nr_fds = 0};
}

std::vector<FrontendRequest> FakeBackend::TakeRequests() {
  Sync();
  MutexLock lock(&mutex_);
  std::vector<FrontendRequest> requests;
  for (; nr_taken_ < received_.size(); nr_taken_++) {
    requests.push_back(received_[nr_taken_].request);
  }
  return requests;
}

void FakeBackend::Post(std::function<void(FakeBackend&)> task) {
  {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  constexpr uint64_t kOne = 1;
  (void)!write(wake_.get(), &kOne, sizeof(kOne));
}

void FakeBackend::Run() {
  while (!is_closed_) {
    std::array<pollfd, 2> polled = {pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                    pollfd{.fd = main_.fd(), .events = POLLIN, .revents = 0}};
    poll(polled.data(), polled.size(), -1);
    if (polled[1].revents != 0) Receive();
    if (!is_closed_ && polled[0].revents != 0) RunTasks();
    MutexLock lock(&mutex_);
    if (stops_) break;
  }
  main_.Close();
  channel_.Close();
  is_over_ = true;
}

void FakeBackend::RunTasks() {
  uint64_t count = 0;
  (void)!read(wake_.get(), &count, sizeof(count));
  std::vector<std::function<void(FakeBackend&)>> tasks;
  {
    MutexLock lock(&mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task(*this);
}

void FakeBackend::Receive() {
  absl::StatusOr<bool> whole = false;
  while (!is_closed_ && (whole = main_.Receive(message_)).ok() && *whole) Handle();
  if (!whole.ok()) is_closed_ = true;
}

void FakeBackend::Handle() {
  const auto request = static_cast<FrontendRequest>(message_.header.request);
  {
    MutexLock lock(&mutex_);
    received_.push_back(
        {.request = request,
         .flags = message_.header.flags,
         .payload = {reinterpret_cast<const char*>(message_.payload.data()), message_.header.size},
         .nr_fds = message_.fds.size()});
  }
  const auto handler = options_.handlers.find(request);
  if (handler != options_.handlers.end()) {
    handler->second(*this, message_);
  } else {
    Answer(message_);
  }
}

void FakeBackend::Answer(const Message& request) {
  const auto reply_u64 = [&](uint64_t value) { Reply(request, AsBytes(value)); };
  switch (static_cast<FrontendRequest>(request.header.request)) {
    case FrontendRequest::kGetFeatures:
      return reply_u64(options_.features);
    case FrontendRequest::kGetProtocolFeatures:
      return reply_u64(options_.protocol_features);
    case FrontendRequest::kGetQueueNum:
      return reply_u64(options_.queue_num);
    case FrontendRequest::kGetMaxMemSlots:
      return reply_u64(options_.max_mem_slots);
    case FrontendRequest::kGetShmemConfig:
      return Reply(request, AsBytes(options_.shmem));
    case FrontendRequest::kGetStatus:
      return reply_u64(status_);
    case FrontendRequest::kPostcopyEnd:
    case FrontendRequest::kCheckDeviceState:
      return reply_u64(0);
    case FrontendRequest::kSetDeviceStateFd:
      return reply_u64(kReplyNoFd);
    case FrontendRequest::kSetLogBase:
    // There is no such object.
    case FrontendRequest::kGetSharedObject:
      return Reply(request, {});
    case FrontendRequest::kGetVringBase:
    case FrontendRequest::kGetConfig:
    case FrontendRequest::kCreateCryptoSession:
      return Reply(request, request.bytes());
    case FrontendRequest::kSetBackendReqFd:
      channel_ = *Connection::Adopt(message_.fds.Take(0));
      break;
    case FrontendRequest::kSetProtocolFeatures:
      acked_ = FromBytes<uint64_t>(request.bytes());
      break;
    case FrontendRequest::kSetStatus:
      status_ = FromBytes<uint64_t>(request.bytes());
      break;
    default:
      break;
  }
  if (request.needs_reply() && (acked_ & Bit(ProtocolFeature::kReplyAck)) != 0) reply_u64(0);
}

void FakeBackend::Reply(const Message& request, absl::Span<const uint8_t> payload,
                        absl::Span<const int> fds) {
  main_.Send(request.header.request, kVersion | kFlagReply, payload, fds).IgnoreError();
}

void FakeBackend::SendRaw(absl::string_view bytes, absl::Span<const int> fds) {
  // If the peer is gone, the bytes are lost.
  (void)doubles::SendRaw(main_.fd(), ToBytes(bytes), fds);
}

void FakeBackend::SendRawToBackendChannel(absl::string_view bytes, absl::Span<const int> fds) {
  (void)doubles::SendRaw(channel_.fd(), ToBytes(bytes), fds);
}

void FakeBackend::Send(BackendRequest request, absl::Span<const uint8_t> payload,
                       absl::Span<const int> fds, bool need_reply) {
  channel_
      .Send(static_cast<uint32_t>(request), kVersion | (need_reply ? kFlagNeedReply : 0), payload,
            fds)
      .IgnoreError();
}

uint64_t FakeBackend::ReceiveReply(FdList* fds) {
  Message reply;
  while (WaitReadable(channel_.fd())) {
    const absl::StatusOr<bool> whole = channel_.Receive(reply);
    if (!whole.ok()) return kNoReply;
    if (!*whole) continue;
    if (fds != nullptr) *fds = std::move(reply.fds);
    return FromBytes<uint64_t>(reply.bytes());
  }
  return kNoReply;
}

}  // namespace gmem::vhost::doubles
