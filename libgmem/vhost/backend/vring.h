// SPDX-License-Identifier: MIT OR Apache-2.0
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
#include "vhost/backend/iotlb_misses.h"
#include "vhost/backend/lane.h"
#include "vhost/backend/lanes.h"
#include "vhost/backend/memory.h"
#include "vhost/backend/negotiation.h"
#include "vhost/backend/notifier.h"
#include "vhost/queue/counters.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The state that the front-end has set for one virtqueue, and the virtqueue while it works.
//
// It starts when a kick is known (SET_VRING_KICK, VRING_KICK) and its ring can be reached; the
// device serves it; Stop() (GET_VRING_BASE, a reset, or the session's end) ends it. A virtqueue
// that has failed isn't served, but counts as started until Stop().
//
// The lane's thread calls TakeKick() and ServeQueue(); they leave to the session's loop what isn't
// the lane's: Attend() does that. All other methods are for the session's loop. See Lanes.
class Vring {
 public:
  // The parts of the session that a virtqueue needs; they must outlive it.
  struct Context {
    // For the device's methods.
    Backend& backend;
    Device& device;
    Lanes& lanes;
    Negotiation& negotiation;
    const SessionMemory& memory;
    const InflightBuffer& inflight;
    BackendChannel& channel;
  };

  // @misses is of all virtqueues together, and must outlive this object.
  Vring(uint16_t index, const Context& context, IotlbMisses& misses)
      : index_(index), context_(context), lane_(context.lanes.of(index)), misses_(misses) {}
  Vring(const Vring&) = delete;
  Vring& operator=(const Vring&) = delete;

  // SET_VRING_NUM and SET_VRING_BASE. FailedPrecondition (EBUSY) while it works.
  absl::Status SetSize(uint32_t size);
  absl::Status SetBase(uint32_t base);
  // SET_VRING_ADDR. InvalidArgument (EINVAL) if the ring isn't in memory.
  absl::Status SetAddress(const VringAddress& address);
  // SET_VRING_ENABLE.
  absl::Status Enable(uint32_t value);
  // For a reset.
  void Disable() { is_enabled_ = false; }
  // SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR; an empty @fd takes the descriptor away.
  absl::Status SetKick(UniqueFd fd);
  absl::Status SetCall(UniqueFd fd);
  absl::Status SetError(UniqueFd fd);
  // VRING_KICK. Starts the virtqueue; an error says why it can't start.
  absl::Status KickInBand();

  // The kick's descriptor is readable.
  void TakeKick();
  // Lets the device serve the virtqueue if it works and may hold chains.
  void ServeQueue();
  // Does what the lane has left, and starts the virtqueue if that is possible now.
  void Attend();
  // Does ServeQueue() have something to do?
  bool wants_service() const { return CanServe() && (is_pending_ || is_polled_); }

  // Call this after a change of the memory or the log. Finds the ring again.
  void Refresh();
  // Call this after a change of the features or the channel. Also asks again for translations.
  void Restart();
  // The front-end has changed the IOTLB. Does something only if the virtqueue's ring or the page
  // that it waits for is concerned: a front-end sends an update for each page.
  void HandleIotlb(const IotlbMessage& change);
  // There will be no translation for @miss, which some virtqueue has asked for. It says nothing
  // about fewer permissions.
  void HandleMissFailure(const IotlbMiss& miss, IotlbMisses::Failure failure);

  // Guest memory goes, and is still mapped: the chains of a receive queue are taken back, so that
  // none points there, and the device learns that it has to give back the others that do.
  void ReleaseMemory();
  // The front-end wants the virtqueue to stop: it isn't served from here on, and the device learns
  // that it has to complete the chains in flight, except those that are taken back.
  void BeginStop();
  // May Stop() follow? Not while chains are in flight, unless the next back-end finds them in the
  // inflight buffer.
  bool can_stop() const;
  bool is_stopping() const { return is_stopping_; }
  // Stops the virtqueue, if it works, until the next SET_VRING_KICK. Returns its base, for
  // GET_VRING_BASE.
  uint32_t Stop();

  // Without VHOST_USER_F_PROTOCOL_FEATURES, for example before SET_FEATURES, it is always enabled.
  bool is_enabled() const {
    return is_enabled_ || !context_.negotiation.has(VirtioFeature::kProtocolFeatures);
  }
  uint16_t index() const { return index_; }
  Lane& lane() { return lane_; }
  const Virtqueue::Counters& counters() const { return counters_; }
  // Does the driver add chains without a kick? Then ServeQueue() must come soon.
  bool wants_poll() const { return is_polled_ && queue_ && !has_failed_; }
  // Null unless the virtqueue works.
  Virtqueue* queue() { return queue_ ? &*queue_ : nullptr; }
  bool has_started() const { return queue_.has_value(); }
  size_t in_flight() const { return queue_ ? queue_->in_flight() : 0; }

 private:
  absl::Status CheckStopped() const;
  Virtqueue::Options options() const;
  // Returns nothing if the front-end hasn't sent all yet, or must send a translation first.
  absl::StatusOr<std::optional<Virtqueue::Memory>> FindRing();
  absl::StatusOr<GuestSpan> FindPart(uint64_t address, uint64_t size);
  // Is a part of the ring in the range of @change?
  bool IsRingIn(const IotlbMessage& change) const;
  void AskForMiss(uint64_t iova, uint8_t permissions);
  void ForgetMiss();
  // @ring: the memory of the ring, if the ring can be reached.
  void UpdateLog(const std::optional<Virtqueue::Memory>& ring);
  void MarkKicked();
  absl::Status Start();
  // Can the device serve it? Not if the session's loop has to attend first.
  bool CanServe() const {
    return queue_ && !has_failed_ && !is_stopping_ && failure_.ok() && queue_->status().ok();
  }
  // See Attend().
  void WakeSession() { context_.lanes.session().Wake(); }
  bool wants_attention() const;
  // The device has popped or pushed.
  void Notice();
  void Fail(const absl::Status& why);
  void Call();
  void CallInBand();

  const uint16_t index_;
  const Context context_;
  Lane& lane_;
  IotlbMisses& misses_;
  Virtqueue::Counters counters_;

  uint32_t size_ = 0;
  uint32_t base_ = 0;
  std::optional<VringAddress> address_;
  Notifier kick_;
  Notifier call_;
  Notifier error_;
  // The value of SET_VRING_ENABLE.
  bool is_enabled_ = false;
  // The driver doesn't kick: look at the ring again and again.
  bool is_polled_ = false;
  // There may be chains to pop.
  bool is_pending_ = false;
  // For Attend(): a call in the channel; the refused translation is worth another request; the
  // virtqueue has failed so.
  bool is_call_due_ = false;
  bool is_retry_due_ = false;
  // The log doesn't have what the back-end before this one may have written in the ring. A
  // front-end may send the log after the start.
  bool is_mark_due_ = false;
  absl::Status failure_;
  // The device has left chains in the ring, and waits for something else.
  bool is_waited_for_ = false;
  // Inside of a call of HandleQueue() or HandleDisabledQueue().
  bool is_serving_ = false;
  bool is_stopping_ = false;
  bool has_failed_ = false;
  // The translation that the virtqueue waits for, one at a time.
  std::optional<IotlbMiss> miss_;
  // The front-end has refused it. It would refuse again, so wait for a kick, or for an update.
  bool is_miss_refused_ = false;
  std::optional<Virtqueue> queue_;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_VRING_H_
