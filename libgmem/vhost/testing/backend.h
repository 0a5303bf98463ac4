// SPDX-License-Identifier: MIT OR Apache-2.0
// A fake back-end for tests of the front-end. It gives the required answers, records all received
// messages, and misbehaves when a test asks for it. Not installed.
#ifndef GMEM_VHOST_TESTING_BACKEND_H_
#define GMEM_VHOST_TESTING_BACKEND_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "vhost/testing/socket.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

using internal::Mutex;
using internal::MutexLock;

// A received message, with all that a test needs to compare its bytes.
struct Received {
  FrontendRequest request;
  uint32_t flags = 0;
  std::string payload;
  size_t nr_fds = 0;

  template <typename Payload>
  Payload As() const {
    return FromBytes<Payload>({reinterpret_cast<const uint8_t*>(payload.data()), payload.size()});
  }
};

// Runs the back-end on a thread of its own, so that the front-end may wait for it.
class FakeBackend {
 public:
  using Handler = std::function<void(FakeBackend&, Message&)>;

  struct Options {
    uint64_t features = Bit(VirtioFeature::kProtocolFeatures) | Bit(VirtioFeature::kVersion1);
    uint64_t protocol_features = 0;
    uint64_t max_mem_slots = 509;
    uint64_t queue_num = 4;
    ShmemConfig shmem = {};
    // A handler replaces the back-end's own answer to a request.
    std::map<FrontendRequest, Handler> handlers = {};
  };

  // The test keeps the other end of @socket.
  FakeBackend(UniqueFd socket, Options options);
  FakeBackend(const FakeBackend&) = delete;
  FakeBackend& operator=(const FakeBackend&) = delete;
  // Ends the thread, which closes its sockets.
  ~FakeBackend();

  // All messages so far.
  std::vector<Received> received() ABSL_LOCKS_EXCLUDED(mutex_);
  // The last message of a kind, which must have come.
  Received Last(FrontendRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  // The numbers of the messages since the last call.
  std::vector<FrontendRequest> TakeRequests() ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs @task on the back-end's thread, between two messages.
  void Post(std::function<void(FakeBackend&)> task) ABSL_LOCKS_EXCLUDED(mutex_);

  // The following functions are for handlers and tasks, on the back-end's thread.
  void Reply(const Message& request, absl::Span<const uint8_t> payload,
             absl::Span<const int> fds = {});
  // Answers as the back-end does without a handler.
  void Answer(const Message& request);
  // Sends bytes unchanged.
  void SendRaw(absl::string_view bytes, absl::Span<const int> fds = {});
  void SendRawToBackendChannel(absl::string_view bytes, absl::Span<const int> fds = {});
  // Sends a request on the back-end channel, and doesn't wait.
  void Send(BackendRequest request, absl::Span<const uint8_t> payload,
            absl::Span<const int> fds = {}, bool need_reply = true);
  // Receives the answer to Send(); kNoReply if none comes.
  static constexpr uint64_t kNoReply = ~uint64_t{0};
  uint64_t ReceiveReply(FdList* fds = nullptr);
  // Sends a request and receives its answer.
  uint64_t Ask(BackendRequest request, absl::Span<const uint8_t> payload,
               absl::Span<const int> fds = {}, FdList* reply_fds = nullptr) {
    Send(request, payload, fds);
    return ReceiveReply(reply_fds);
  }
  // Closes the connection, as a back-end that dies.
  void Close() { is_closed_ = true; }
  void CloseBackendChannel() { channel_.Close(); }

 private:
  void Run();
  // Waits until the back-end has received all messages.
  void Sync() ABSL_LOCKS_EXCLUDED(mutex_);
  void RunTasks() ABSL_LOCKS_EXCLUDED(mutex_);
  void Receive() ABSL_LOCKS_EXCLUDED(mutex_);
  void Handle() ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  Connection main_;
  Connection channel_;
  UniqueFd wake_;
  bool is_closed_ = false;
  // True when the thread has ended.
  std::atomic<bool> is_over_ = false;
  uint64_t acked_ = 0;
  uint64_t status_ = 0;
  Message message_;

  Mutex mutex_;
  bool stops_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::function<void(FakeBackend&)>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<Received> received_ ABSL_GUARDED_BY(mutex_);
  size_t nr_taken_ ABSL_GUARDED_BY(mutex_) = 0;

  std::thread thread_;
};

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_BACKEND_H_
