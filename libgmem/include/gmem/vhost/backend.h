// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_BACKEND_H_
#define GMEM_VHOST_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/inflight.h"
#include "gmem/vhost/iotlb.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

/// The back-end's side of one connection with a front-end: negotiation, memory, and the
/// virtqueues, which it hands to a device.
///
/// Nothing here blocks, but the calls that say so: the owner's loop calls Process() when
/// fd() is readable, and when next_deadline() has come. What the front-end does wrong is
/// refused, if it asked to be told, and else the end of the session: Process() says why.
///
/// A virtqueue works from SET_VRING_KICK (or VRING_KICK) on, once the rest of it is known,
/// and is served while it is enabled; GET_VRING_BASE stops it, and is answered when
/// nothing is in flight.
///
/// Virtqueues are those of virtio 1: little-endian, so kCrossEndian isn't offered. It is for
/// legacy drivers, before VERSION_1, in guests whose CPU isn't the host's.
///
/// The front-end must be trusted in two things that a process can't guard against: that it
/// doesn't shorten files that are mapped (see GuestMemoryMap), and that it leaves
/// O_NONBLOCK to the descriptors that it hands over, which both have. Without it, and with
/// an eventfd or a pipe that is full, a write waits until the front-end reads.
///
/// Thread-compatible.
class Backend {
 public:
  /// While a virtqueue has no kick (SET_VRING_KICK without a descriptor), it is looked at
  /// so often; also while it is disabled, for HandleDisabledQueue(). GET_VRING_BASE stops
  /// that.
  static constexpr absl::Duration kPollInterval = absl::Milliseconds(1);
  /// What a device's state may have at most; it comes from the front-end.
  static constexpr size_t kMaxStateSize = size_t{64} << 20;

  /// @p device must outlive the backend. InvalidArgument (EINVAL) if what the device says
  /// of itself can't be.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(Connection connection, Device& device,
                                                         absl::Duration timeout = kDefaultTimeout);
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  /// Stops all virtqueues.
  ~Backend();

  /// For epoll: readable when there is something to do.
  int fd() const { return epoll_.get(); }
  absl::Time next_deadline() const;
  /// Does what can be done now. An error is the end of the session, and stays.
  absl::Status Process();

  /// What was negotiated.
  bool has_feature(VirtioFeature feature) const { return (features_ & Bit(feature)) != 0; }
  bool has_feature(ProtocolFeature feature) const {
    return (protocol_features_ & Bit(feature)) != 0;
  }
  uint64_t features() const { return features_; }
  const GuestMemoryMap& memory() const { return memory_; }
  /// Does the front-end let the device serve it?
  bool is_enabled(size_t index) const {
    return index < vrings_.size() && vrings_[index].is_enabled;
  }
  /// Null unless it has started.
  Virtqueue* queue(size_t index) {
    return index < vrings_.size() && vrings_[index].queue ? &*vrings_[index].queue : nullptr;
  }

  /// May the front-end be asked for something?
  bool has_channel() const { return channel_ != nullptr && channel_->status().ok(); }

  /// Requests of the back-end's own. @p done is called once, from inside of this call, of
  /// Process(), or at the end of the session: OK when the front-end has done it (if
  /// ProtocolFeature::kReplyAck was negotiated; else, when it is sent). FailedPrecondition
  /// (ENOTCONN) if there is no channel, or what it needs was not negotiated.
  using Done = absl::AnyInvocable<void(absl::Status)>;
  /// Maps a part of a file into a shared memory region of the guest. @p fd stays the
  /// caller's. It can be used by the guest when it is done.
  void ShmemMap(const ShmemMapping& mapping, int fd, Done done);
  /// Must be all of one mapping.
  void ShmemUnmap(const ShmemMapping& mapping, Done done);
  void ConfigChanged(Done done);
  /// Lets the guest write to a part of a file, of one page, instead of a kick; @p fd -1
  /// takes that back.
  void SetHostNotifier(uint16_t queue, int fd, uint64_t offset, uint64_t size, Done done);
  void AddSharedObject(const Uuid& uuid, Done done);
  void RemoveSharedObject(const Uuid& uuid, Done done);
  /// Another device's object; NotFound (ENOENT) if nobody has added it.
  void LookUpSharedObject(const Uuid& uuid,
                          absl::AnyInvocable<void(absl::StatusOr<UniqueFd>)> done);

  /// The same, and waits for the answer: blocks up to the timeout. Only the back-end
  /// channel is served meanwhile: requests of the front-end wait until Process(). A
  /// front-end that can't answer while it waits for us is in the way of that (facts of
  /// life: QEMU 11.1 in SET_VRING_ENABLE, GET_VRING_BASE and ADD_MEM_REG): don't call it
  /// from QueueStopping() or QueueStarted().
  absl::Status ShmemMapAndWait(const ShmemMapping& mapping, int fd);
  absl::Status ShmemUnmapAndWait(const ShmemMapping& mapping);

 private:
  // A translation that a virtqueue waits for.
  enum class Miss : uint8_t { kNone, kAsked, kRefused };
  // What the front-end has said of a virtqueue, and the virtqueue, once it has started.
  struct Vring {
    uint32_t size = 0;
    uint32_t base = 0;
    std::optional<VringAddress> address;
    UniqueFd kick;
    UniqueFd call;
    UniqueFd error;
    bool is_polled = false;
    bool is_enabled = false;
    // There may be something to Pop().
    bool is_pending = false;
    Miss miss = Miss::kNone;
    // The channel didn't take it.
    bool is_call_due = false;
    bool has_failed = false;
    std::optional<Virtqueue> queue;
  };
  // A transfer of the device's state, by pipe.
  struct StateTransfer {
    UniqueFd fd;
    TransferDirection direction = TransferDirection::kSave;
    std::string bytes;
    size_t done = 0;
    absl::Status status;
  };

  Backend(Connection connection, Device& device, absl::Duration timeout);

  // The loop: backend.cc.
  absl::Status Init();
  absl::Status Watch(int fd, uint64_t token, uint32_t events, bool is_new);
  void Unwatch(int fd);
  void UnwatchChannel();
  void UpdateEvents();
  absl::Status ProcessEvents();
  absl::Status ProcessRequests();
  void Wake();

  // What each request does: backend_requests.cc.
  absl::Status Handle(Message& message);
  absl::Status HandlePlain(FrontendRequest request, Message& message);
  absl::Status HandleVring(FrontendRequest request, Message& message);
  absl::Status HandleOther(FrontendRequest request, Message& message);
  absl::Status HandleAsked(FrontendRequest request, Message& message);
  uint64_t offered_features() const;
  uint64_t offered_protocol_features() const;
  absl::Status SetFeatures(uint64_t features);
  absl::Status SetProtocolFeatures(uint64_t features);
  void UpdateTranslation();
  absl::Status NeedFeature(ProtocolFeature feature, bool is_there) const;
  absl::Status ReplyConfig(const ConfigSpace& request);
  absl::Status SetConfig(const ConfigSpace& request);
  absl::Status SetBackendChannel(UniqueFd socket);
  absl::Status SetStatus(uint64_t status);
  absl::Status ResetDevice();
  absl::Status ReplyShmemConfig();
  absl::Status ReplyCryptoSession(CryptoSession session);
  absl::Status ReplySharedObject(const Uuid& uuid);

  // Virtqueues: backend_vrings.cc; their rings: backend_rings.cc.
  absl::StatusOr<Vring*> FindVring(uint32_t index);
  absl::StatusOr<Vring*> FindStoppedVring(uint32_t index);
  // Non-blocking, and without signals.
  static absl::Status PrepareEventFd(int fd);
  absl::Status SetVringFd(FrontendRequest request, uint64_t vring, UniqueFd fd);
  absl::Status SetVringAddress(const VringAddress& address);
  absl::Status GetVringBase(uint32_t index);
  absl::Status AnswerVringBase();
  absl::Status Kick(size_t index);
  static void SetKicked(Vring& vring);
  absl::Status StartQueue(size_t index);
  void StopQueue(size_t index);
  void ServeQueues();
  void ServeQueue(size_t index);
  void FailQueue(size_t index, const absl::Status& why);
  void Call(size_t index);
  void MoveRings();
  void SetLog(Vring& vring, const std::optional<Virtqueue::Memory>& ring);
  void AskForMiss(size_t index, uint64_t iova, uint8_t permissions);
  Virtqueue::Options OptionsOf(size_t index) const;
  // Nothing: not yet, as the front-end hasn't said all, or the IOTLB has to be asked.
  absl::StatusOr<GuestSpan> FindRingPart(size_t index, uint64_t address, uint64_t size);
  absl::StatusOr<std::optional<Virtqueue::Memory>> FindRing(size_t index);
  bool has_started() const;
  size_t nr_in_flight() const;

  // Memory and migration: backend_memory.cc.
  absl::Status SetMemoryTable(Message& message);
  absl::Status AddMemoryRegion(Message& message);
  absl::Status ReplyAddMemoryRegion(Message& message);
  absl::Status RegisterPostcopy();
  absl::Status SetLogBase(Message& message);
  absl::Status ReplyInflight(const InflightArea& request);
  absl::Status SetInflight(const InflightArea& request, UniqueFd fd);
  absl::Status AdvisePostcopy();
  absl::Status EndPostcopy();
  absl::Status SetStateFd(const DeviceStateTransfer& request, UniqueFd fd);
  void AdvanceState();
  absl::Status AnswerState();

  template <auto kRequest>
  void Ask(ProtocolFeature feature, const typename RequestTraits<kRequest>::Payload& payload,
           absl::Span<const int> fds, Done done);
  absl::Status Wait(const std::optional<absl::Status>& result);

  Device& device_;
  bool is_connected_ = false;
  const absl::Duration timeout_;
  absl::Status status_;
  UniqueFd epoll_;
  // Readable while there is work that no descriptor tells of.
  UniqueFd wake_;
  Responder responder_;
  uint32_t main_events_ = 0;
  std::unique_ptr<Requester> channel_;
  uint32_t channel_events_ = 0;
  // A copy of its socket: epoll only forgets a file by a descriptor that is still open.
  UniqueFd channel_watch_;

  uint64_t features_ = 0;
  uint64_t protocol_features_ = 0;
  uint8_t device_status_ = 0;
  GuestMemoryMap memory_;
  Iotlb iotlb_;
  std::vector<Vring> vrings_;

  DirtyMarks log_;
  UniqueFd log_fd_;
  InflightBuffer inflight_;
  UniqueFd postcopy_;
  bool is_postcopy_listening_ = false;
  // The front-end's acknowledgement of the table is due.
  bool is_table_unacknowledged_ = false;
  std::optional<StateTransfer> transfer_;

  // Requests that are answered later; the next isn't taken before.
  bool is_answer_due() const { return base_asked_.has_value() || is_state_asked_; }
  // Nor while the front-end doesn't read what it was answered.
  bool is_busy() const { return is_answer_due() || responder_.wants_write(); }
  std::optional<uint32_t> base_asked_;
  bool is_state_asked_ = false;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BACKEND_H_
