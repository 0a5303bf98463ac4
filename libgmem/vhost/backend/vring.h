// SPDX-License-Identifier: Apache-2.0
// One virtqueue of a session. Not installed.
#ifndef GMEM_VHOST_BACKEND_VRING_H_
#define GMEM_VHOST_BACKEND_VRING_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"
#include "vhost/backend/channel.h"
#include "vhost/backend/memory.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/backend/poller.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The state that the front-end has set for one virtqueue, and the virtqueue while it works.
//
// It starts when a kick is known (SET_VRING_KICK, VRING_KICK) and its ring can be reached; the
// device serves it; Stop() (GET_VRING_BASE, a reset, or the session's end) ends it. A virtqueue
// that has failed isn't served, but counts as started until Stop().
class Vring {
 public:
  // The parts of the session that a virtqueue needs; they must outlive it.
  struct Context {
    // For the device's methods.
    Backend& backend;
    Device& device;
    Poller& poller;
    Negotiation& negotiation;
    const SessionMemory& memory;
    const InflightBuffer& inflight;
    BackendChannel& channel;
  };

  Vring(uint16_t index, const Context& context) : index_(index), context_(context) {}
  Vring(const Vring&) = delete;
  Vring& operator=(const Vring&) = delete;

  // SET_VRING_NUM and SET_VRING_BASE. FailedPrecondition (EBUSY) while it works.
  absl::Status SetSize(uint32_t size);
  absl::Status SetBase(uint32_t base);
  // SET_VRING_ADDR. InvalidArgument (EINVAL) if the ring isn't in memory.
  absl::Status SetAddress(const VringAddress& address);
  // SET_VRING_ENABLE.
  absl::Status Enable(uint32_t value);
  void set_enabled(bool is_enabled);
  // SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR; an empty @fd takes the descriptor away.
  absl::Status SetKick(UniqueFd fd);
  absl::Status SetCall(UniqueFd fd);
  absl::Status SetError(UniqueFd fd);
  // VRING_KICK. Starts the virtqueue; an error says why it can't start.
  absl::Status KickInBand();
  // The kick's descriptor is readable.
  void TakeKick();

  // Starts the virtqueue if that is possible now, and lets the device serve it if it may hold
  // chains.
  void Serve();
  // Call this after a change of the memory, the IOTLB, the log, the features or the channel. Finds
  // the ring again, and asks again for translations.
  void Refresh();

  // The front-end wants the virtqueue to stop: it isn't served from here on, and the device learns
  // that it has to complete the chains in flight.
  void BeginStop();
  // May Stop() follow? Not while chains are in flight, unless they are lost anyway or the next
  // back-end finds them in the inflight buffer.
  bool can_stop() const;
  // Stops the virtqueue, if it works, until the next SET_VRING_KICK. Returns its base, for
  // GET_VRING_BASE.
  uint32_t Stop();

  bool is_enabled() const { return is_enabled_; }
  // Does a device push, or a driver add, without a notification? Then Serve() must come soon.
  bool wants_poll() const { return is_stopping_ || (is_polled_ && queue_ && !has_failed_); }
  // Null unless the virtqueue works.
  Virtqueue* queue() { return queue_ ? &*queue_ : nullptr; }
  bool has_started() const { return queue_.has_value(); }
  size_t in_flight() const { return queue_ ? queue_->in_flight() : 0; }

 private:
  // A translation that the virtqueue waits for.
  enum class Miss : uint8_t { kNone, kAsked, kRefused };

  absl::Status CheckStopped() const;
  Virtqueue::Options options() const;
  // Returns nothing if the front-end hasn't sent all yet, or must send a translation first.
  absl::StatusOr<std::optional<Virtqueue::Memory>> FindRing();
  absl::StatusOr<GuestSpan> FindPart(uint64_t address, uint64_t size);
  void AskForMiss(uint64_t iova, uint8_t permissions);
  void HandleMissReply(const absl::Status& reply);
  // @ring: the memory of the ring, if the ring can be reached.
  void UpdateLog(const std::optional<Virtqueue::Memory>& ring);
  void MarkKicked();
  absl::Status Start();
  void ServeStarted();
  void Fail(const absl::Status& why);
  void Call();

  const uint16_t index_;
  const Context context_;

  uint32_t size_ = 0;
  uint32_t base_ = 0;
  std::optional<VringAddress> address_;
  Notifier kick_;
  Notifier call_;
  Notifier error_;
  bool is_enabled_ = false;
  // The driver doesn't kick: look at the ring again and again.
  bool is_polled_ = false;
  // There may be chains to pop.
  bool is_pending_ = false;
  // Send the call again: the channel had no room for it.
  bool is_call_due_ = false;
  bool is_stopping_ = false;
  bool has_failed_ = false;
  Miss miss_ = Miss::kNone;
  std::optional<Virtqueue> queue_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_VRING_H_
