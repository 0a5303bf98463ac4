// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_FRONTEND_H_
#define GMEM_VHOST_FRONTEND_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/postcopy.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/responder.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"

namespace gmem::vhost {

/// The front-end of a vhost-user device: what a VMM has, or whoever plays the driver.
///
///     auto frontend = *Frontend::Create(*Connection::Connect(path), {}, &handler);
///     frontend->Negotiate();                     // protocol features, back-end channel
///     frontend->SetFeatures(frontend->features() & mine);
///     frontend->SetMemory(regions);
///     frontend->StartVring(0, {.size = 256, .address = ..., .kick_fd = ..., ...});
///     frontend->DriverOk();
///
/// Two ways to use it, which mix. Start() is asynchronous: the owner's loop calls
/// Process() when fd() is readable, and when next_deadline() has come. Call(), and all
/// methods with names, wait for their own answers, and serve both channels meanwhile: a
/// back-end may send a request of its own and wait for that before it answers. They wait
/// at most Options::timeout, however much they send, and don't run the owner's loop.
///
/// Inside of a callback (Handler, ShmemFactory, or a request's `done`), what waits is
/// refused with FailedPrecondition; Start() isn't, and its request goes behind those under
/// way. No callback may destroy the front-end.
///
/// Errors: Unavailable (ECONNRESET) the back-end is gone; DataLoss (EBADMSG) it broke the
/// protocol; DeadlineExceeded (ETIMEDOUT) it is too slow: after each of these three the
/// connection is over, see status(). Internal (EIO) it refused. Unimplemented
/// (EOPNOTSUPP) the protocol feature for that isn't negotiated: nothing was sent.
///
/// When the connection is over, for whatever reason, the shared memory regions and the
/// host notifiers are unmapped; Reconnect() brings all else back. The same for the
/// destructor.
///
/// What can't be kept from a back-end: a file that it sends, and that is on a file system of
/// its own (FUSE), can keep mmap() and fstat() from returning until it answers there. And
/// it can shorten a file that is mapped: whoever touches a page behind the end then, in
/// ShmemRegions or at a host notifier, gets SIGBUS, the guest as the host.
///
/// Thread-compatible, together with the Handler, the ShmemRegions and the SharedObjects.
class Frontend {
 public:
  using Handler = FrontendHandler;

  /// All that this library knows to use. kXenMmap isn't among them.
  static constexpr uint64_t kKnownProtocolFeatures =
      ((uint64_t{1} << 23) - 1) & ~Bit(ProtocolFeature::kXenMmap);
  /// Without those that change what a VMM must do: addresses are user addresses, and a
  /// virtqueue that stops has no requests in flight.
  static constexpr uint64_t kDefaultProtocolFeatures = kKnownProtocolFeatures &
                                                       ~Bit(ProtocolFeature::kGpaAddresses) &
                                                       ~Bit(ProtocolFeature::kGetVringBaseInflight);

  struct Options {
    /// How long the back-end may take for an answer, and for all answers that one method
    /// waits for: SetMemory(), for example, or Reconnect(). One that pins the guest's memory
    /// may need more.
    absl::Duration timeout = kDefaultTimeout;
    /// Which to negotiate, of those that the back-end offers.
    uint64_t protocol_features = kDefaultProtocolFeatures;
    /// Makes the shared memory regions. Without it, kShmemMap isn't negotiated.
    ShmemFactory shmem_factory = nullptr;
    /// Shared by the VM's devices; outlives the front-end. Without it, kSharedObject isn't
    /// negotiated.
    SharedObjects* shared_objects = nullptr;
  };

  /// @p handler outlives the front-end; null refuses what has no default. Sends nothing.
  static absl::StatusOr<std::unique_ptr<Frontend>> Create(Connection connection, Options options,
                                                          Handler* handler = nullptr);
  Frontend(const Frontend&) = delete;
  Frontend& operator=(const Frontend&) = delete;
  ~Frontend();

  // --- Running ---

  /// For epoll: readable when Process() has something to do.
  int fd() const { return epoll_.get(); }
  /// When Process() is due at the latest; InfiniteFuture() if nothing is under way. Ask each
  /// time before you wait: deadlines follow no clock that is set.
  absl::Time next_deadline() const { return main_->next_deadline(); }
  /// Does what can be done now, never blocks. At most kMaxRequestsAtOnce of the back-end's
  /// requests, so that it can't keep the caller's loop for itself. The connection's error,
  /// if it has one.
  static constexpr int kMaxRequestsAtOnce = 64;
  absl::Status Process();
  /// OK, or why the connection is over.
  const absl::Status& status() const { return main_->status(); }
  /// OK while the back-end channel works, or isn't there. Its end alone ends no connection,
  /// but unmaps all: who mapped can't unmap any more.
  const absl::Status& backend_channel_status() const { return backend_status_; }
  /// The back-end's requests that were refused, if only by silence.
  uint64_t nr_refused() const { return nr_refused_; }
  /// Ends the connection: what is under way is told Cancelled. Inside of a callback, ends
  /// it right afterwards.
  void Close();

  /// Goes on with a back-end that has started again: negotiates the same features, sends
  /// the memory table, the log, the in-flight buffer and the virtqueues that were started,
  /// with the base that their used rings say (a packed one: the last base; the back-end
  /// knows from the in-flight buffer). FailedPrecondition if the new back-end offers less
  /// than the old one. On failure the connection is over; try again with another one.
  absl::Status Reconnect(Connection connection);

  // --- Any request ---

  /// Starts a request, see Requester::Start(). Leaves alone what the methods with names
  /// remember for Reconnect(). Not for callbacks in SetMemory() during postcopy: back-ends
  /// take the message behind a table for its acknowledgement.
  template <FrontendRequest kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
             Requester::Done done, bool want_ack = true) {
    StartFormat(static_cast<uint32_t>(kRequest), *FindFormat(kRequest), AsBytes(payload), fds,
                std::move(done), want_ack);
  }

  /// What to wait for, if a request has no reply of its own.
  enum class Confirm {
    /// Nothing: it is sent.
    kNo,
    /// The acknowledgement, if kReplyAck is negotiated.
    kIfAcked,
    /// Without kReplyAck, the answer to a GET_FEATURES sent behind it: the back-end has
    /// dealt with the request, but whether it failed isn't known.
    kAlways,
  };
  /// Sends a request and waits. Descriptors that come with the reply go to @p reply_fds,
  /// if given, else are closed.
  template <FrontendRequest kRequest>
  absl::StatusOr<typename RequestTraits<kRequest>::Reply> Call(
      const typename RequestTraits<kRequest>::Payload& payload = {}, absl::Span<const int> fds = {},
      Confirm confirm = Confirm::kIfAcked, FdList* reply_fds = nullptr) {
    using Reply = typename RequestTraits<kRequest>::Reply;
    Reply reply = {};
    const absl::Status status =
        CallFormat(static_cast<uint32_t>(kRequest), *FindFormat(kRequest), AsBytes(payload), fds,
                   confirm, [&reply, reply_fds](Message& message) {
                     if (FindFormat(kRequest)->has_reply) reply = FromBytes<Reply>(message.bytes());
                     if (reply_fds != nullptr) *reply_fds = std::move(message.fds);
                   });
    if (!status.ok()) return status;
    return reply;
  }

  // --- Negotiation ---

  /// Agrees with the back-end on the protocol's features, becomes its owner, opens the
  /// back-end channel and makes the shared memory regions. Once for a connection.
  /// A feature isn't taken without those it needs: kBackendReq for kBackendSendFd,
  /// kBackendReq and kReplyAck for kInbandNotifications, kBackendReq and kBackendSendFd for
  /// kHostNotifier and kShmemMap, kBackendReq for kSharedObject, kInflightShmfd for
  /// kGetVringBaseInflight.
  absl::Status Negotiate();
  bool Has(ProtocolFeature feature) const { return (protocol_features_ & Bit(feature)) != 0; }
  uint64_t protocol_features() const { return protocol_features_; }
  /// The virtio features that the device offers, without kProtocolFeatures, and without
  /// kIommuPlatform unless kBackendReq and kReplyAck are negotiated.
  uint64_t features() const;
  /// Those that were set last.
  uint64_t acked_features() const { return acked_features_; }
  /// Sets what driver and VMM agreed on, a part of features(), else InvalidArgument. With
  /// kStatus, then says FEATURES_OK, and FailedPrecondition if the device doesn't keep it.
  absl::Status SetFeatures(uint64_t features);
  /// How many virtqueues (of a network device: pairs) the back-end has; 1 without kMq.
  uint64_t queue_num() const { return queue_num_; }

  // --- Device ---

  /// @p size bytes from @p offset of the configuration space.
  absl::StatusOr<std::string> GetConfig(uint32_t offset, uint32_t size);
  /// @p flags: kConfigWritable or kConfigMigration.
  absl::Status SetConfig(uint32_t offset, absl::string_view bytes,
                         uint32_t flags = kConfigWritable);
  absl::StatusOr<uint8_t> GetStatus();
  absl::Status SetStatus(uint8_t status);
  /// Adds ACKNOWLEDGE, DRIVER and DRIVER_OK to the status. Does nothing without kStatus.
  absl::Status DriverOk();
  /// Resets the device, by RESET_DEVICE, status 0 or both, as negotiated. The virtqueues
  /// are forgotten, shared memory and host notifiers unmapped; the memory table stays.
  absl::Status ResetDevice();
  absl::Status SetMtu(uint16_t mtu);
  absl::Status SendRarp(const std::array<uint8_t, 6>& mac);
  /// A socket on which the back-end talks to the display.
  absl::Status SetGpuSocket(int socket);
  absl::Status SendIotlb(const IotlbMessage& message);
  /// The session's number. Internal (EIO) if the back-end has none for us.
  absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session);
  absl::Status CloseCryptoSession(int64_t session);
  /// Says how the device's state is to be moved: kSave, the back-end writes to @p fd,
  /// kLoad, it reads from there. If it prefers a descriptor of its own, that is returned,
  /// else one that isn't valid. All virtqueues are stopped.
  absl::StatusOr<UniqueFd> SetDeviceStateFd(TransferDirection direction, int fd);
  /// After the end of the state was read, or written and closed: did it work?
  absl::Status CheckDeviceState();
  /// An object that the back-end has put into the SharedObjects.
  absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid);

  // --- Virtqueues. Indices are below kMaxQueues, else InvalidArgument. ---

  /// SET_VRING_NUM, _BASE, _ADDR, _ERR, _CALL, _KICK and _ENABLE, in this order.
  absl::Status StartVring(unsigned index, const VringSetup& setup);
  absl::Status SetVringNum(unsigned index, uint32_t size);
  absl::Status SetVringBase(unsigned index, uint32_t base);
  absl::Status SetVringAddr(const VringAddress& address);
  /// A descriptor below 0 is none.
  absl::Status SetVringKick(unsigned index, int fd);
  absl::Status SetVringCall(unsigned index, int fd);
  absl::Status SetVringErr(unsigned index, int fd);
  absl::Status SetVringEnable(unsigned index, bool enable);
  absl::Status SetVringEndian(unsigned index, bool big_endian);
  /// Stops the virtqueue and forgets it; returns its base. Its host notifier is gone.
  absl::StatusOr<uint32_t> GetVringBase(unsigned index);
  /// Tells the back-end that there are buffers: by the kick fd, or in-band. Doesn't wait, and
  /// in-band, ResourceExhausted (ENOMEM) if too much waits to be sent: kick again, later.
  absl::Status Kick(unsigned index);

  // --- Memory ---

  /// Tells the back-end of the guest's memory, all of it: a whole table of at most
  /// kMaxTableRegions, or with kConfigureMemSlots only what has changed, for up to
  /// max_memory_slots() regions. ResourceExhausted beyond that: nothing was sent. If it
  /// fails halfway, memory() is what the back-end has; a further call goes on from there.
  /// If the connection is over, fails, and memory() is what Reconnect() will send.
  ///
  /// With kConfigureMemSlots, a region that has grown stays and gets another one besides it,
  /// while there are enough slots: virtqueues with rings in it go on. One that has shrunk
  /// or moved is removed and added anew: stop such virtqueues before. So memory() may have
  /// more regions than @p regions.
  absl::Status SetMemory(absl::Span<const GuestRegion> regions);
  size_t max_memory_slots() const { return max_slots_; }
  /// What the back-end has acknowledged.
  absl::Span<const SharedRegion> memory() const { return memory_; }

  /// The in-flight buffer, in which the back-end remembers requests across its restart. The
  /// back-end makes one, which it gets back at Reconnect().
  absl::Status StartInflight(uint16_t nr_queues, uint16_t queue_size);
  /// The same with one that comes from elsewhere, a migration for example.
  absl::Status SetInflight(const InflightArea& area, int fd);
  /// -1 if there is none.
  int inflight_fd() const { return inflight_fd_.get(); }
  const InflightArea& inflight_area() const { return inflight_area_; }

  /// Lets the back-end log what it writes, to guest memory and to used rings. Those
  /// virtqueues are logged whose address says where: VringAddress::log. If it fails, some may
  /// be logged already: StopLog() ends that.
  absl::Status StartLog(const DirtyLog& log);
  absl::Status StopLog();

  /// Postcopy migration: announces it, says that the source has stopped, and ends it.
  /// Between the two latter, SetMemory() learns where the back-end has its memory.
  absl::Status PostcopyAdvise();
  absl::Status PostcopyListen();
  absl::Status PostcopyEnd();
  /// The back-end's faults, to use with memory(); null but between Advise and End.
  const Faults* faults() const { return faults_ ? &*faults_ : nullptr; }

  ShmemRegions& shmem() { return shmem_; }

 private:
  // What Reconnect() has to say of a virtqueue.
  struct Vring {
    std::optional<uint32_t> size, base;
    std::optional<VringAddress> address;
    std::optional<UniqueFd> kick, call, err;
    std::optional<bool> enabled, big_endian;
  };
  // What Reconnect() has to say.
  struct Remembered {
    std::vector<SharedRegion> memory;
    std::map<unsigned, Vring> vrings;
    uint64_t features = 0;
    bool has_features = false;
    bool is_driver_ok = false;
  };
  // While it lives, callbacks may run: nobody may wait. Then what they did takes effect.
  class Busy {
   public:
    explicit Busy(Frontend& frontend)
        : frontend_(frontend), was_busy_(std::exchange(frontend.is_busy_, true)) {}
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() {
      frontend_.is_busy_ = was_busy_;
      if (!was_busy_) frontend_.Settle();
    }

   private:
    Frontend& frontend_;
    const bool was_busy_;
  };

  // All that is sent while the outermost lives, has to be answered in Options::timeout.
  class Deadline {
   public:
    explicit Deadline(Frontend& frontend);
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;
    ~Deadline() { frontend_.deadline_ = before_; }

   private:
    Frontend& frontend_;
    const std::optional<absl::Duration> before_;
  };

  Frontend(Options options, Handler* handler);

  void StartFormat(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                   absl::Span<const int> fds, Requester::Done done, bool want_ack);
  absl::Status CallFormat(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                          absl::Span<const int> fds, Confirm confirm,
                          absl::FunctionRef<void(Message&)> take_reply);
  absl::Status CallOnce(uint32_t request, const Format& format, absl::Span<const uint8_t> payload,
                        absl::Span<const int> fds, bool want_ack,
                        absl::FunctionRef<void(Message&)> take_reply);
  // Sends and waits for a request that has no reply.
  template <FrontendRequest kRequest>
  absl::Status Do(const typename RequestTraits<kRequest>::Payload& payload = {},
                  absl::Span<const int> fds = {}, Confirm confirm = Confirm::kIfAcked) {
    return Call<kRequest>(payload, fds, confirm).status();
  }
  absl::Status Need(ProtocolFeature feature, absl::string_view what) const;

  // Channels.
  absl::Status Attach(Connection connection);
  void Wait(const bool& is_done);
  void Settle();
  void Watch();
  void Watch(int fd, uint32_t& watched, uint32_t events);
  void ProcessBackend();
  void End(absl::Status why);
  void EndBackendChannel(absl::Status why);
  absl::Status UnmapAll();

  // The back-end's requests.
  absl::Status Answer(const Responder::Request& request);
  absl::Status Handle(Message& message);
  absl::Status HandleVring(const Message& message);
  absl::Status HandleHostNotifier(Message& message);
  absl::Status HandleIotlb(const IotlbMessage& message);
  absl::Status HandleShmem(const Message& message);
  absl::Status AddObject(const Uuid& uuid);
  absl::StatusOr<int> LookUpObject(const Responder::Request& request) const;
  absl::Status RemoveNotifier(unsigned index);

  // Negotiation.
  absl::Status NegotiateProtocol(std::optional<uint64_t> exactly);
  absl::Status MakeShmem();
  absl::Status AskLimits();
  absl::Status OpenBackendChannel();
  absl::Status SendFeatures(uint64_t features);
  absl::Status AddStatus(uint8_t bits);
  absl::Status ForgetDevice();

  // Virtqueues.
  absl::Status SetVringFd(FrontendRequest request, unsigned index, int fd,
                          std::optional<UniqueFd> Vring::*member);
  absl::Status SendVringAddr(VringAddress address);
  uint32_t ResumeBase(const Vring& vring) const;
  absl::Status ResumeVring(unsigned index, const Vring& vring);

  // Memory.
  absl::Status SetShared(std::vector<SharedRegion> regions);
  absl::Status SendTable(std::vector<SharedRegion> regions);
  absl::Status SendDifference(std::vector<SharedRegion> regions);
  absl::Status AddRegion(SharedRegion region);
  absl::Status AcknowledgeClients(FrontendRequest request);
  absl::Status SendLogging(bool enable);
  absl::Status Resume(const Remembered& remembered);

  Options options_;
  // In the place of a null one.
  Handler no_handler_;
  Handler* const handler_;
  UniqueFd epoll_;
  std::unique_ptr<Requester> main_;
  std::unique_ptr<Responder> backend_;
  absl::Status backend_status_;
  // What epoll_ waits for.
  uint32_t main_events_ = 0;
  uint32_t backend_events_ = 0;
  // A callback runs, or Process(), which may call one.
  bool is_busy_ = false;
  // Of the method that waits, as Uptime() has it.
  std::optional<absl::Duration> deadline_;
  bool wants_close_ = false;
  bool has_ended_ = false;
  uint64_t nr_refused_ = 0;

  uint64_t offered_features_ = 0;
  uint64_t acked_features_ = 0;
  uint64_t protocol_features_ = 0;
  // With the first back-end.
  std::optional<uint64_t> agreed_;
  bool is_negotiated_ = false;
  bool has_features_ = false;
  bool is_driver_ok_ = false;
  uint64_t queue_num_ = 1;
  size_t max_slots_ = kMaxTableRegions;
  // What a back-end said once; a later one may not say less.
  size_t min_slots_ = 0;

  std::map<unsigned, Vring> vrings_;
  std::map<unsigned, Mapping> notifiers_;
  std::vector<SharedRegion> memory_;
  InflightArea inflight_area_ = {};
  UniqueFd inflight_fd_;
  LogArea log_area_ = {};
  UniqueFd log_fd_;
  bool is_postcopy_ = false;
  // During postcopy: the next message is to be our acknowledgement of a table.
  bool is_table_unacknowledged_ = false;
  std::optional<Faults> faults_;
  ShmemRegions shmem_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_FRONTEND_H_
