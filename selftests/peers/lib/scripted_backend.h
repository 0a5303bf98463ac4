// SPDX-License-Identifier: MIT OR Apache-2.0
// A back-end without a device. It accepts all requests of a front-end, and maps when the test
// calls Map(). It uses only the library's channels.
#ifndef GMEM_SELFTESTS_PEERS_LIB_SCRIPTED_BACKEND_H_
#define GMEM_SELFTESTS_PEERS_LIB_SCRIPTED_BACKEND_H_

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
    /// Sizes of the shared memory regions by shmid; 0 means no region.
    std::vector<uint64_t> shmem_sizes;
    uint64_t protocol_features =
        Bit(ProtocolFeature::kMq) | Bit(ProtocolFeature::kReplyAck) |
        Bit(ProtocolFeature::kBackendReq) | Bit(ProtocolFeature::kBackendSendFd) |
        Bit(ProtocolFeature::kConfigureMemSlots) | Bit(ProtocolFeature::kShmemMap);
  };

  /// Step() accepts a front-end from @p listener whenever none is connected.
  ScriptedBackend(Listener* listener, Options options)
      : listener_(listener), options_(std::move(options)) {}

  /// Waits at most @p timeout for an event, and handles it.
  void Step(absl::Duration timeout = absl::ZeroDuration());
  /// Calls Step() until @p condition is true. Returns false if that takes half a minute.
  bool StepUntil(absl::FunctionRef<bool()> condition);

  bool is_connected() const { return main_ != nullptr; }
  /// The reason why the last connection ended.
  const absl::Status& status() const { return status_; }
  bool has_backend_channel() const { return backend_ != nullptr; }
  bool is_enabled(uint32_t queue) const {
    const auto found = enabled_.find(queue);
    return found != enabled_.end() && found->second;
  }
  /// The number of regions in the front-end's memory table, and of requests from the front-end.
  size_t nr_regions() const { return nr_regions_; }
  uint64_t nr_requests() const { return nr_requests_; }

  /// Sends a request on the back-end channel, and serves the front-end until the answer comes.
  absl::Status Map(const ShmemMapping& mapping, int fd);
  absl::Status Unmap(const ShmemMapping& mapping);

  /// Ends the connection, as if the back-end had died.
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

#endif  // GMEM_SELFTESTS_PEERS_LIB_SCRIPTED_BACKEND_H_
