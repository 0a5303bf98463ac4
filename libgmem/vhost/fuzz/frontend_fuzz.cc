// SPDX-License-Identifier: MIT OR Apache-2.0
// libFuzzer: a front-end whose back-end sends any answers and any requests.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"
#include "vhost/fuzz/records.h"

namespace gmem::vhost {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(2);
// How long the back-end waits for the next request before it ends.
constexpr int kPatienceMs = 20;

// The back-end. It acknowledges every request that asks for that. To answer a request that has a
// reply, it takes the next record for the main channel; it first sends the records for the back-end
// channel that come before.
class Peer {
 public:
  Peer(UniqueFd socket, absl::Span<const uint8_t> input) : records_(input) {
    auto connection = Connection::Adopt(std::move(socket));
    if (!connection.ok()) abort();
    connection_ = *std::move(connection);
  }

  void Run() {
    while (TakeRequest() && Answer()) {
    }
    connection_.Close();
    channel_.reset();
  }

 private:
  // Receives the next request; false if none comes.
  bool TakeRequest() {
    while (true) {
      const auto received = connection_.Receive(message_);
      if (!received.ok()) return false;
      if (*received) return true;
      pollfd wait = {.fd = connection_.fd(), .events = POLLIN, .revents = 0};
      if (poll(&wait, 1, kPatienceMs) <= 0) return false;
    }
  }

  bool Answer() {
    const auto request = static_cast<FrontendRequest>(message_.header.request);
    if (request == FrontendRequest::kSetBackendReqFd) channel_ = message_.fds.Take(0);
    const Format* const format = FindFormat(request);
    if (format == nullptr) abort();
    if (!format->has_reply) {
      return !message_.needs_reply() || Reply(AsBytes(uint64_t{0}), 0);
    }
    while (const auto record = records_.Next()) {
      if (record->is_second_channel) {
        if (channel_ && !doubles::SendRecord(channel_.get(), *record)) channel_.reset();
        continue;
      }
      if (record->is_reply) return Reply(record->bytes, record->nr_fds);
      return doubles::SendRecord(connection_.fd(), *record);
    }
    return false;
  }

  bool Reply(absl::Span<const uint8_t> payload, size_t nr_fds) {
    std::array<int, kMaxFds> fds;
    fds.fill(doubles::SharedMemory());
    return connection_
        .Send(message_.header.request, kVersion | kFlagReply,
              payload.first(std::min(payload.size(), kMaxPayloadSize)),
              absl::MakeConstSpan(fds).first(std::min(nr_fds, fds.size())))
        .ok();
  }

  Connection connection_;
  UniqueFd channel_;
  doubles::Records records_;
  Message message_;
};

// Makes all calls that a VMM may make in the life of a device.
void Use(Frontend& frontend) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!frontend.Negotiate().ok()) return;
  frontend.SetFeatures(frontend.features()).IgnoreError();
  frontend.GetConfig(0, 16).IgnoreError();
  frontend
      .SetMemory({{.guest_address = GuestAddress(0),
                   .size = KiB(64),
                   .user_address = 0x10000,
                   .fd = doubles::SharedMemory()}})
      .IgnoreError();
  frontend.StartInflight(1, 16).IgnoreError();
  frontend
      .StartVring(0, {.size = 16,
                      .address = {.index = 0,
                                  .flags = 0,
                                  .descriptor = 0x10000,
                                  .used = 0x12000,
                                  .available = 0x11000,
                                  .log = 0},
                      .kick_fd = event.get(),
                      .call_fd = event.get()})
      .IgnoreError();
  frontend.DriverOk().IgnoreError();
  for (int i = 0; i < 8 && frontend.status().ok(); i++) frontend.Process().IgnoreError();
  frontend.SetDeviceStateFd(TransferDirection::kSave, event.get()).IgnoreError();
  frontend.CheckDeviceState().IgnoreError();
  frontend.GetVringBase(0).IgnoreError();
  frontend.GetSharedObject(Uuid{}).IgnoreError();
  if (const auto log = DirtyLog::Create(GuestAddress(0x10000)); log.ok()) {
    frontend.StartLog(*log).IgnoreError();
    frontend.StopLog().IgnoreError();
  }
  frontend.CreateCryptoSession({}).IgnoreError();
  if (frontend.PostcopyAdvise().ok()) frontend.PostcopyListen().IgnoreError();
  frontend.SetMemory({}).IgnoreError();
  frontend.PostcopyEnd().IgnoreError();
  frontend.ResetDevice().IgnoreError();
}

}  // namespace
}  // namespace gmem::vhost

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gmem::vhost::Connection;
  using gmem::vhost::Frontend;
  auto pair = Connection::Pair();
  if (!pair.ok()) abort();
  gmem::vhost::Peer peer(std::move(pair->second), {data, size});
  gmem::vhost::SharedObjects objects;
  Frontend::Options options;
  options.timeout = gmem::vhost::kTimeout;
  options.shmem_factory = [](uint8_t,
                             gmem::ByteSize region) -> absl::StatusOr<gmem::vhost::ShmemRegion> {
    // As in a VMM, limit the size to the addresses that it has.
    if (region > gmem::MiB(64)) return absl::ResourceExhaustedError("too large");
    return gmem::vhost::NewHostRegion(region);
  };
  options.shared_objects = &objects;
  auto frontend = Frontend::Create(std::move(pair->first), std::move(options));
  if (!frontend.ok()) abort();
  std::thread thread([&peer] { peer.Run(); });
  gmem::vhost::Use(**frontend);
  frontend->reset();
  thread.join();
  return 0;
}
