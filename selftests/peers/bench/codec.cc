// SPDX-License-Identifier: MIT OR Apache-2.0
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "lib/peer.h"

namespace gmem::vhost::peers {
namespace {

// The number of round trips in a sample, and of samples in a row.
constexpr int kBatch = 2000;
constexpr int kSamples = 25;

constexpr ShmemMapping kMapping = {
    .shmid = 0, .padding = {}, .fd_offset = 0, .shm_offset = 0, .len = 4096, .flags = kShmemMapRw};

Peer StartPeer(absl::FunctionRef<void()> work) {
  auto peer = Peer::Fork(work);
  if (!peer.ok()) abort();
  return *std::move(peer);
}

// --- The least that such a protocol must do: a header, a payload, at times a descriptor ---

struct BareMessage {
  MessageHeader header;
  std::array<uint8_t, sizeof(ShmemMapping)> payload;
};

void BareSend(int socket, BareMessage& message, size_t size, int fd) {
  iovec iov = {.iov_base = &message, .iov_len = size};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const cmsg = CMSG_FIRSTHDR(&header);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
  }
  if (sendmsg(socket, &header, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) _exit(1);
}

// Returns false if the peer is gone.
bool BareReceive(int socket, BareMessage& message) {
  iovec iov = {.iov_base = &message, .iov_len = sizeof(message)};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
  msghdr header = {};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  if (recvmsg(socket, &header, MSG_CMSG_CLOEXEC) <= 0) return false;
  if (cmsghdr* const cmsg = CMSG_FIRSTHDR(&header); cmsg != nullptr) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
    close(fd);
  }
  return true;
}

void BareAnswer(int socket) {
  BareMessage message = {};
  while (BareReceive(socket, message)) {
    BareSend(socket, message, sizeof(MessageHeader) + sizeof(uint64_t), -1);
  }
}

class BarePair {
 public:
  BarePair() {
    std::array<int, 2> fds = {};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) abort();
    socket_.reset(fds[0]);
    peer_ = StartPeer([this, &fds] {
      socket_.reset();
      BareAnswer(fds[1]);
    });
    close(fds[1]);
  }

  void RoundTrip(size_t payload, int fd) {
    BareMessage message = {};
    BareSend(socket_.get(), message, sizeof(MessageHeader) + payload, fd);
    if (!BareReceive(socket_.get(), message)) abort();
  }

 private:
  UniqueFd socket_;
  std::optional<Peer> peer_;
};

// --- The library's channels ---

// Answers all requests that have come. Maps nothing: BenchShmem() measures that.
absl::Status AnswerAll(Responder& responder) {
  while (true) {
    const absl::StatusOr<Responder::Request> request = responder.Next();
    if (!request.ok()) return request.status();
    if (request->message == nullptr) return absl::OkStatus();
    absl::Status status = request->status;
    const bool is_features = request->message->header.request == 1;
    if (status.ok()) {
      status = is_features ? responder.Reply(AsBytes(uint64_t{1}))
                           : responder.Acknowledge(absl::OkStatus());
    }
    if (!status.ok()) return status;
  }
}

void WaitFor(int fd) {
  pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
  poll(&ready, 1, -1);
}

// Starts a process that answers requests. Returns our end of the connection, and the process.
std::pair<Connection, Peer> StartResponder(Responder::Side side) {
  auto pair = Connection::Pair();
  if (!pair.ok()) abort();
  Peer peer = StartPeer([&pair, side] {
    pair->first.Close();
    auto connection = Connection::Adopt(std::move(pair->second));
    if (!connection.ok()) return;
    Responder responder(*std::move(connection), side);
    responder.set_reply_ack(true);
    do {
      WaitFor(responder.fd());
    } while (AnswerAll(responder).ok());
  });
  return {std::move(pair->first), std::move(peer)};
}

class ChannelPair {
 public:
  explicit ChannelPair(Responder::Side side) {
    auto [connection, peer] = StartResponder(side);
    requester_.emplace(std::move(connection));
    requester_->set_reply_ack(true);
    peer_ = std::move(peer);
  }

  template <auto kRequest>
  void RoundTrip(const typename RequestTraits<kRequest>::Payload& payload, int fd) {
    bool is_done = false;
    const std::array<int, 1> fds = {fd};
    requester_->Start<kRequest>(payload, {fds.data(), fd >= 0 ? size_t{1} : 0},
                                [&is_done](absl::StatusOr<Message*> reply) {
                                  if (!reply.ok()) abort();
                                  is_done = true;
                                });
    while (!is_done) {
      WaitFor(requester_->fd());
      if (!requester_->Process().ok()) abort();
    }
  }

 private:
  std::optional<Requester> requester_;
  std::optional<Peer> peer_;
};

}  // namespace

void BenchCodec() {
  const OneCpu one_cpu;
  UniqueFd file(memfd_create("mapped", MFD_CLOEXEC));
  if (!file) abort();
  BarePair bare;
  ChannelPair main(Responder::Side::kFrontend);
  ChannelPair backend(Responder::Side::kBackend);
  auto [connection, peer] = StartResponder(Responder::Side::kFrontend);
  auto frontend = Frontend::Create(std::move(connection), {});
  if (!frontend.ok()) abort();
  Samples bare_plain, bare_fd, features, waiting, map_unmap, bare_map_unmap;
  for (int sample = 0; sample < kSamples; sample++) {
    bare_plain.Time(kBatch, [&] { bare.RoundTrip(0, -1); });
    features.Time(kBatch, [&] { main.RoundTrip<FrontendRequest::kGetFeatures>({}, -1); });
    waiting.Time(kBatch, [&] {
      if (!(*frontend)->Call<FrontendRequest::kGetFeatures>().ok()) abort();
    });
    bare_fd.Time(kBatch, [&] { bare.RoundTrip(sizeof(ShmemMapping), file.get()); });
    bare_map_unmap.Time(kBatch, [&] {
      bare.RoundTrip(sizeof(ShmemMapping), file.get());
      bare.RoundTrip(sizeof(ShmemMapping), -1);
    });
    map_unmap.Time(kBatch, [&] {
      backend.RoundTrip<BackendRequest::kShmemMap>(kMapping, file.get());
      backend.RoundTrip<BackendRequest::kShmemUnmap>(kMapping, -1);
    });
  }
  Row("GET_FEATURES : bare ping-pong with one fd", features, bare_fd, kAtMost, 1.3);
  Row("GET_FEATURES : bare ping-pong without", features, bare_plain);
  Row("GET_FEATURES by Frontend::Call() : the same", waiting, bare_plain);
  Row("SHMEM_MAP + UNMAP : bare, one fd with the first", map_unmap, bare_map_unmap, kAtMost, 1.3);
}

// Both ends are in this process, which counts its allocations.
void BenchAllocations() {
  UniqueFd file(memfd_create("mapped", MFD_CLOEXEC));
  auto pair = Connection::Pair();
  if (!file || !pair.ok()) abort();
  auto other = Connection::Adopt(std::move(pair->second));
  if (!other.ok()) abort();
  Requester requester(std::move(pair->first));
  requester.set_reply_ack(true);
  Responder responder(*std::move(other), Responder::Side::kBackend);
  responder.set_reply_ack(true);
  int answers = 0;
  const std::array<int, 1> fds = {file.get()};
  const uint64_t before = AllocatedBytes();
  for (int i = 0; i < kBatch; i++) {
    requester.Start<BackendRequest::kShmemMap>(kMapping, fds,
                                               [&answers](absl::StatusOr<Message*> reply) {
                                                 if (reply.ok()) answers++;
                                               });
    if (!AnswerAll(responder).ok() || !requester.Process().ok()) abort();
  }
  const uint64_t bytes = AllocatedBytes() - before;
  // A connection needs some allocations: 0 means that the count doesn't work.
  if (answers != kBatch || before == 0) abort();
  // Each round trip has two messages.
  Value("heap bytes per message", static_cast<double>(bytes) / (2.0 * kBatch), "B", kAtMost, 0);
}

}  // namespace gmem::vhost::peers
