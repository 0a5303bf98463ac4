// SPDX-License-Identifier: Apache-2.0
// A back-end without a device: it says yes to all that a front-end asks, and maps what the
// test tells it to. It is made of the protocol's channels alone.
#ifndef GMEM_SELFTESTS_VHOST_SCRIPTED_BACKEND_H_
#define GMEM_SELFTESTS_VHOST_SCRIPTED_BACKEND_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"

namespace gmem::vhost::peers {

class ScriptedBackend {
 public:
  struct Options {
    /// By shmid; 0 is none.
    std::vector<uint64_t> shmem_sizes;
    uint64_t protocol_features =
        Bit(ProtocolFeature::kMq) | Bit(ProtocolFeature::kReplyAck) |
        Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kBackendSendFd) |
        Bit(ProtocolFeature::kConfigureMemSlots) | Bit(ProtocolFeature::kShmemMap);
  };

  /// Takes the next front-end from @p listener, if it is there.
  ScriptedBackend(Listener* listener, Options options)
      : listener_(listener), options_(std::move(options)) {}

  /// Does what is to be done, waiting at most @p timeout for the first.
  void Step(absl::Duration timeout = absl::ZeroDuration());
  /// The same until @p condition is true; false if it isn't in half a minute.
  bool StepUntil(absl::FunctionRef<bool()> condition);

  bool is_connected() const { return main_ != nullptr; }
  /// Why the last connection has ended.
  const absl::Status& status() const { return status_; }
  bool has_backend_channel() const { return backend_ != nullptr; }
  bool is_enabled(uint32_t queue) const {
    const auto found = enabled_.find(queue);
    return found != enabled_.end() && found->second;
  }
  /// How many regions the front-end says that memory has, and how many requests came.
  size_t nr_regions() const { return nr_regions_; }
  uint64_t nr_requests() const { return nr_requests_; }

  /// Asks and waits for the answer, serving the front-end meanwhile.
  absl::Status Map(const ShmemMapping& mapping, int fd);
  absl::Status Unmap(const ShmemMapping& mapping);

  /// Ends the connection, as if it had died.
  void Disconnect(absl::Status why = absl::CancelledError());

 private:
  absl::Status Serve();
  absl::Status Answer(Message& message);
  template <BackendRequest kRequest>
  absl::Status Ask(const ShmemMapping& mapping, absl::Span<const int> fds);

  Listener* listener_;
  Options options_;
  absl::Status status_;
  std::unique_ptr<Responder> main_;
  std::unique_ptr<Requester> backend_;
  std::map<uint32_t, bool> enabled_;
  size_t nr_regions_ = 0;
  uint64_t nr_requests_ = 0;
};

}  // namespace gmem::vhost::peers

#endif  // GMEM_SELFTESTS_VHOST_SCRIPTED_BACKEND_H_
