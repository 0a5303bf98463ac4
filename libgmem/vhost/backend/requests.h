// SPDX-License-Identifier: MIT OR Apache-2.0
// The requests of the front-end. Not installed.
#ifndef GMEM_VHOST_BACKEND_REQUESTS_H_
#define GMEM_VHOST_BACKEND_REQUESTS_H_

#include <sys/epoll.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/responder.h"
#include "vhost/backend/parts.h"
#include "vhost/backend/vring.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// Takes requests from the main channel, lets the session's parts carry out each, and answers it.
//
// If a request fails, an acknowledgement reports that to the front-end, if the front-end asked for
// one. Otherwise Take() returns the failure, and the session ends: the front-end must not go on as
// if the request had worked. Refuse() has the exceptions.
class Requests {
 public:
  // @parts must outlive this object.
  Requests(Connection connection, Parts& parts)
      : parts_(parts), responder_(std::move(connection), Responder::Side::kFrontend) {}
  Requests(const Requests&) = delete;
  Requests& operator=(const Requests&) = delete;

  // Lets the poller wait for requests.
  absl::Status Watch();
  // Has the front-end closed its end of the main channel?
  bool has_frontend_gone() const;
  // Call this at the end of the loop's round: the two functions below may have changed their
  // results.
  void UpdateEvents();

  // Does a request wait for its answer? Then no request is taken.
  bool is_answer_due() const { return due_ != Due::kNothing; }
  // Gives that answer if it is known now. DeadlineExceeded (ETIMEDOUT) if it has been due for too
  // long.
  absl::Status AnswerDue();
  // The time left until then; InfiniteDuration() if nothing is due.
  absl::Duration time_left() const;

  // Takes the requests that are there, up to a limit. An error is the end of the session.
  absl::Status Take();

 private:
  // Requests of one Take(): the owner's loop has other sessions to look after.
  static constexpr int kMaxRequests = 32;

  // The answer to the last request may wait for the end of a state transfer (CHECK_DEVICE_STATE),
  // or for chains in flight, when it stops a virtqueue (GET_VRING_BASE), resets the device, or
  // removes memory.
  enum class Due : uint8_t { kNothing, kState, kStop, kReset, kMemory };

  // Nor does Take() take a request while the front-end doesn't read its answers.
  bool is_busy() const { return is_answer_due() || responder_.wants_write(); }

  // The dispatch. An OK result says that the request was answered, or will be.
  absl::Status Handle(Message& message);
  // Deals with a request that is malformed or has failed. An error is the end of the session.
  absl::Status Refuse(const Message& message, const absl::Status& why);
  // Acknowledges a request that has no reply of its own, if @status is OK.
  absl::Status Done(const absl::Status& status);
  template <typename Payload>
  absl::Status Reply(const Payload& payload) {
    return responder_.Reply(AsBytes(payload));
  }

  absl::Status GetConfig(const ConfigSpace& request);
  absl::Status SetFeatures(uint64_t features);
  absl::Status SetProtocolFeatures(uint64_t features);
  absl::Status SetStatus(uint64_t status);
  // Answers when the device no longer has chains.
  absl::Status ResetDevice();
  absl::Status SetBackendChannel(UniqueFd socket);

  absl::Status SetMemoryTable(const MemoryTable& table, const FdList& fds);
  absl::Status AddMemoryRegion(const Message& message);
  absl::Status RemoveMemoryRegion(const MemoryRegion& region);
  // Answers a request that removes memory, at once or when no chain points there.
  absl::Status AnswerWithoutMemory();
  absl::Status AnswerMemory();
  absl::Status UpdateIotlb(const IotlbMessage& message);
  absl::Status SetLogBase(const LogArea& area, int fd);
  absl::Status GetInflight(const InflightArea& request);
  absl::Status SetInflight(const InflightArea& area, UniqueFd fd);
  absl::Status AdvisePostcopy();
  absl::Status EndPostcopy();

  absl::Status SetVring(const VringState& state, absl::Status (Vring::*set)(uint32_t));
  absl::Status SetVringAddress(const VringAddress& address);
  absl::Status SetVringFd(uint64_t number, UniqueFd fd, absl::Status (Vring::*set)(UniqueFd));
  absl::Status KickVring(uint32_t index);
  absl::Status GetVringBase(uint32_t index);

  absl::Status GetSharedObject(const Uuid& uuid);
  absl::Status SetStateFd(const DeviceStateTransfer& request, UniqueFd fd);
  absl::Status CheckState();

  // Lets the answer wait for chains in flight, for the device's stop_timeout() at most.
  absl::Status WaitForChains(Due due);
  // DeadlineExceeded (ETIMEDOUT) when that time is over; @what can't be done then.
  absl::Status CheckTime(absl::string_view what, size_t in_flight) const;

  Parts& parts_;
  Responder responder_;
  // The events that the poller waits for.
  uint32_t events_ = EPOLLIN;
  Due due_ = Due::kNothing;
  // When the chains have to be done, a time of Uptime().
  absl::Duration deadline_;
  // kStop: the virtqueue that stops, and its index.
  Vring* stopping_ = nullptr;
  uint32_t stopping_index_ = 0;
  // kMemory: the table whose addresses the front-end wants to know.
  std::optional<MemoryTable> table_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_REQUESTS_H_
