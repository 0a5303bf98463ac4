// SPDX-License-Identifier: Apache-2.0
// A back-end for tests of the front-end: answers what it must, writes down what it was
// sent, and misbehaves as told. Not installed.
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

// What came: enough to compare bytes.
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

// A thread of its own plays the back-end, so that the front-end may wait for it.
class FakeBackend {
 public:
  using Handler = std::function<void(FakeBackend&, Message&)>;

  struct Options {
    uint64_t features = Bit(VirtioFeature::kProtocolFeatures) | Bit(VirtioFeature::kVersion1);
    uint64_t protocol_features = 0;
    uint64_t max_mem_slots = 509;
    uint64_t queue_num = 4;
    ShmemConfig shmem = {};
    // Instead of what it would answer.
    std::map<FrontendRequest, Handler> handlers = {};
  };

  // Has the other end of @socket.
  FakeBackend(UniqueFd socket, Options options);
  FakeBackend(const FakeBackend&) = delete;
  FakeBackend& operator=(const FakeBackend&) = delete;
  // Ends the thread, which closes its sockets.
  ~FakeBackend();

  // All that came up to now.
  std::vector<Received> received() ABSL_LOCKS_EXCLUDED(mutex_);
  // The last one of a kind, which has come.
  Received Last(FrontendRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  // The numbers of what came since the last call.
  std::vector<FrontendRequest> TakeRequests() ABSL_LOCKS_EXCLUDED(mutex_);

  // Lets the thread do something between two messages.
  void Post(std::function<void(FakeBackend&)> task) ABSL_LOCKS_EXCLUDED(mutex_);

  // For handlers and tasks, on the thread.
  void Reply(const Message& request, absl::Span<const uint8_t> payload,
             absl::Span<const int> fds = {});
  // What it would do without a handler.
  void Answer(const Message& request);
  // Bytes as they are.
  void SendRaw(absl::string_view bytes, absl::Span<const int> fds = {});
  void SendRawToBackendChannel(absl::string_view bytes, absl::Span<const int> fds = {});
  // A request on the back-end channel, without waiting.
  void Send(BackendRequest request, absl::Span<const uint8_t> payload,
            absl::Span<const int> fds = {}, bool need_reply = true);
  // Its answer; kNoReply if none comes.
  static constexpr uint64_t kNoReply = ~uint64_t{0};
  uint64_t ReceiveReply(FdList* fds = nullptr);
  // Both.
  uint64_t Ask(BackendRequest request, absl::Span<const uint8_t> payload,
               absl::Span<const int> fds = {}, FdList* reply_fds = nullptr) {
    Send(request, payload, fds);
    return ReceiveReply(reply_fds);
  }
  // Dies.
  void Close() { is_closed_ = true; }
  void CloseBackendChannel() { channel_.Close(); }

 private:
  void Run();
  // Waits until all that was sent to it has been received.
  void Sync() ABSL_LOCKS_EXCLUDED(mutex_);
  void RunTasks() ABSL_LOCKS_EXCLUDED(mutex_);
  void Receive() ABSL_LOCKS_EXCLUDED(mutex_);
  void Handle() ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  Connection main_;
  Connection channel_;
  UniqueFd wake_;
  bool is_closed_ = false;
  // The thread has ended.
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
