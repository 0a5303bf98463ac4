// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_FRONTEND_H_
#define GMEM_VHOST_FRONTEND_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/dirty_log.h"
#include "gmem/vhost/frontend_handler.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vhost/message.h"
#include "gmem/vhost/postcopy.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/shared_objects.h"
#include "gmem/vhost/shmem.h"

namespace gmem::vhost {
namespace frontend_internal {
struct FrontendImpl;
}  // namespace frontend_internal

/// The front-end of a vhost-user device: the VMM's end of the connection, or that of any other
/// program that plays the driver, see DriverRing.
///
///     auto frontend = *Frontend::Create(*Connection::Connect(path), {}, &handler);
///     frontend->Negotiate();                     // protocol features, back-end channel
///     frontend->SetFeatures(frontend->features() & mine);
///     frontend->SetMemory(regions);
///     frontend->StartVring(0, {.size = 256, .address = ..., .kick_fd = ..., ...});
///     frontend->DriverOk();
///
/// A program may use it in two ways, and mix them. Start() is asynchronous: the owner's loop calls
/// Process() when fd() is readable and when next_deadline() has come. Call() and the methods for
/// single requests wait for the back-end's answers. While they wait, they serve both channels,
/// because a back-end may send a request of its own and answer only after the front-end does. Each
/// method waits at most Options::timeout, however many requests it sends, and doesn't run the
/// owner's loop.
///
/// Inside a callback (FrontendHandler, ShmemFactory, or the `done` of a request), methods that wait
/// fail with FailedPrecondition. Start() works there: its request goes behind those under way. No
/// callback may destroy the front-end.
///
/// Errors of all methods: Unavailable (ECONNRESET) the back-end has closed the connection; DataLoss
/// (EBADMSG) the back-end broke the protocol; DeadlineExceeded (ETIMEDOUT) the back-end is too
/// slow. Each of these three ends the connection, see status(). Internal (EIO) the back-end refused
/// the request. Unimplemented (EOPNOTSUPP) the request needs a protocol feature that isn't
/// negotiated; nothing was sent.
///
/// The end of the connection, for any reason, unmaps the shared memory regions and the host
/// notifiers; Reconnect() restores everything else. The destructor unmaps the same.
///
/// Two powers stay with a hostile back-end. It can send a file of a file system that it serves
/// itself (FUSE), and so keep mmap() and fstat() from returning for as long as it likes. And it can
/// shorten a file that is mapped in ShmemRegions or as a host notifier: a touch of a page beyond
/// the new end then raises SIGBUS, by the guest as by the host.
///
/// Specification: docs/interop/vhost-user.rst of QEMU 11.1.
///
/// Thread-compatible, together with its FrontendHandler, ShmemRegions and SharedObjects.
class Frontend {
 public:
  using Handler = FrontendHandler;

  /// The protocol features that this library can use: all except kXenMmap.
  static constexpr uint64_t kKnownProtocolFeatures =
      ((uint64_t{1} << 23) - 1) & ~Bit(ProtocolFeature::kXenMmap);
  /// Leaves out two features that change what a VMM must do: with kGpaAddresses, the addresses of
  /// virtqueues are no longer user addresses; with kGetVringBaseInflight, a stopped virtqueue may
  /// have requests in flight.
  static constexpr uint64_t kDefaultProtocolFeatures = kKnownProtocolFeatures &
                                                       ~Bit(ProtocolFeature::kGpaAddresses) &
                                                       ~Bit(ProtocolFeature::kGetVringBaseInflight);

  struct Options {
    /// How long the back-end may take for one answer, and for all answers that one method waits
    /// for, SetMemory() or Reconnect() for example. A back-end that pins the guest's memory may
    /// need more.
    absl::Duration timeout = kDefaultTimeout;
    /// The protocol features to negotiate if the back-end offers them.
    uint64_t protocol_features = kDefaultProtocolFeatures;
    /// Makes the shared memory regions. If null, kShmemMap isn't negotiated.
    ShmemFactory shmem_factory = nullptr;
    /// Hands guestmems themselves to the back-end, instead of views: see SetMemory(). The back-end
    /// can then read and free the whole guestmem, take lent pages from the guest and bind the
    /// memory elsewhere. For a back-end that the VMM trusts as itself, with secret memory, which
    /// can't have views, with a gmem.ko of ABI 1, or for postcopy.
    bool whole_guest_memory = false;
    /// Refuses files that the back-end could shorten. It has their descriptors, and a touch of what
    /// is gone raises SIGBUS in this process and in all other back-ends. Memfds that are sealed
    /// with F_SEAL_SHRINK pass, and guestmems, which nobody can shorten. The seal allows holes: the
    /// back-end can still free pages. They read as zeroes afterwards; in hugetlbfs, a touch raises
    /// SIGBUS if the pool has no page left.
    bool only_sealed_memory = false;
    /// The name of the views, by which the host's operator knows them: for example that of the
    /// device. At most kMaxNameLength characters.
    std::string view_name = "vhost-user";
    /// The objects that the VM's devices share; outlives the front-end. If null, kSharedObject
    /// isn't negotiated.
    SharedObjects* shared_objects = nullptr;
  };

  /// Sends nothing yet. @p handler outlives the front-end; if null, the front-end refuses all
  /// requests without a default. InvalidArgument (EINVAL) if Options::view_name is too long or
  /// isn't printable.
  static absl::StatusOr<std::unique_ptr<Frontend>> Create(Connection connection, Options options,
                                                          Handler* handler = nullptr);
  Frontend(const Frontend&) = delete;
  Frontend& operator=(const Frontend&) = delete;
  ~Frontend();

  // --- Running ---

  /// For epoll: readable when Process() has something to do.
  int fd() const;
  /// The latest time for the next Process(); InfiniteFuture() if no request is under way. Ask again
  /// before each wait: deadlines follow CLOCK_MONOTONIC, which the returned time can't.
  absl::Time next_deadline() const;
  /// Does all that can be done without blocking, but answers at most kMaxRequestsAtOnce of the
  /// back-end's requests, so that the back-end can't occupy the caller's loop. Returns status().
  absl::Status Process();
  static constexpr int kMaxRequestsAtOnce = 64;
  /// OK, or why the connection has ended.
  const absl::Status& status() const;
  /// OK while the back-end channel works, or if there is none; else why it has ended. The end of
  /// this channel alone doesn't end the connection, but unmaps everything, since the back-end can
  /// no longer ask for that.
  const absl::Status& backend_channel_status() const;
  /// How many of the back-end's requests the front-end has refused, including those that ask for no
  /// answer.
  uint64_t nr_refused() const;
  /// Ends the connection; requests under way end with Cancelled. Inside a callback, the end comes
  /// right after the callback.
  void Close();

  /// Goes on with a back-end that has started again. Negotiates the same features, sends the memory
  /// table, the log and the in-flight buffer, and starts the virtqueues that were started. A split
  /// virtqueue goes on where its used ring ends; a packed one gets its last base, and the back-end
  /// takes the rest from the in-flight buffer. FailedPrecondition if the new back-end offers less
  /// than the old one. On failure the connection is over; try again with another one.
  absl::Status Reconnect(Connection connection);

  // --- Any request ---

  /// Starts a request, see Requester::Start(). Reconnect() doesn't repeat it. A callback that runs
  /// inside SetMemory() must not call this during postcopy: back-ends treat the message after a
  /// table as its acknowledgement.
  template <FrontendRequest kRequest>
  void Start(const typename RequestTraits<kRequest>::Payload& payload, absl::Span<const int> fds,
             Requester::Done done, bool want_ack = true) {
    StartBytes(kRequest, AsBytes(payload), fds, std::move(done), want_ack);
  }

  /// The answer to wait for, if a request has no reply of its own.
  enum class Confirm {
    /// Nothing: the request is sent.
    kNo,
    /// The acknowledgement, if kReplyAck is negotiated.
    kIfAcked,
    /// The acknowledgement; without kReplyAck, the answer to a GET_FEATURES behind the request.
    /// That answer says that the back-end has processed the request, not that it succeeded.
    kAlways,
  };
  /// Sends a request and waits. Descriptors that come with the reply go to @p reply_fds; if that is
  /// null, they are closed.
  template <FrontendRequest kRequest>
  absl::StatusOr<typename RequestTraits<kRequest>::Reply> Call(
      const typename RequestTraits<kRequest>::Payload& payload = {}, absl::Span<const int> fds = {},
      Confirm confirm = Confirm::kIfAcked, FdList* reply_fds = nullptr) {
    typename RequestTraits<kRequest>::Reply reply = {};
    const absl::Status status =
        CallBytes(kRequest, AsBytes(payload), fds, confirm, AsWritableBytes(reply), reply_fds);
    if (!status.ok()) return status;
    return reply;
  }

  // --- Negotiation ---

  /// Agrees with the back-end on the protocol's features, becomes its owner, opens the back-end
  /// channel and makes the shared memory regions. Once for each connection. Leaves out a feature
  /// whose needs aren't met: kBackendSendFd, kSharedObject (kBackendReq), kInbandNotifications
  /// (kBackendReq and kReplyAck), kHostNotifier, kShmemMap (kBackendReq and kBackendSendFd),
  /// kGetVringBaseInflight (kInflightShmfd), kPagefault (kReplyAck).
  absl::Status Negotiate();
  bool Has(ProtocolFeature feature) const { return (protocol_features() & Bit(feature)) != 0; }
  uint64_t protocol_features() const;
  /// The virtio features that the device offers, without kProtocolFeatures, and without
  /// kIommuPlatform unless kBackendReq and kReplyAck are negotiated.
  uint64_t features() const;
  /// The features that were set last.
  uint64_t acked_features() const;
  /// Sets the features that driver and VMM agreed on. InvalidArgument if one isn't in features().
  /// With kStatus, sets FEATURES_OK, too: FailedPrecondition if the device doesn't keep it.
  absl::Status SetFeatures(uint64_t features);
  /// How many virtqueues (of a network device: pairs) the back-end has, 1 to kMaxQueues; 1 without
  /// kMq.
  uint64_t queue_num() const;

  // --- Device ---

  /// Reads @p size bytes from @p offset of the configuration space. Internal (EIO) if the back-end
  /// can't read them.
  absl::StatusOr<std::string> GetConfig(uint32_t offset, uint32_t size);
  /// Writes to the configuration space. @p flags: kConfigWritable or kConfigMigration.
  absl::Status SetConfig(uint32_t offset, absl::string_view bytes,
                         uint32_t flags = kConfigWritable);
  absl::StatusOr<uint8_t> GetStatus();
  /// 0 resets the device, see ResetDevice().
  absl::Status SetStatus(uint8_t status);
  /// Adds ACKNOWLEDGE, DRIVER and DRIVER_OK to the status. Does nothing without kStatus.
  absl::Status DriverOk();
  /// Resets the device by RESET_DEVICE, by status 0 or by both, as negotiated. If the back-end has
  /// neither, or refuses RESET_DEVICE, as some do that offer it, stops all virtqueues that work, by
  /// GET_VRING_BASE, which waits for their chains in flight: that stands for a reset, but a device
  /// may keep more state than virtqueues. Forgets the virtqueues and the features, and unmaps
  /// shared memory and host notifiers. The back-end keeps the memory table, and the in-flight
  /// buffer, which knows the rings of the driver before: call StartInflight() again for the next
  /// one.
  absl::Status ResetDevice();
  absl::Status SetMtu(uint16_t mtu);
  absl::Status SendRarp(const std::array<uint8_t, 6>& mac);
  /// Gives the back-end a socket on which it talks to the display.
  absl::Status SetGpuSocket(int socket);
  absl::Status SendIotlb(const IotlbMessage& message);
  /// Returns the session's number. Internal (EIO) if the back-end makes no session.
  absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session);
  absl::Status CloseCryptoSession(int64_t session);
  /// Starts to move the device's state: with kSave, the back-end writes it to @p fd; with kLoad, it
  /// reads it from there. Returns the back-end's own descriptor, a pipe or a socket, if the
  /// back-end prefers one to @p fd, else an invalid one. Stop all virtqueues before.
  absl::StatusOr<UniqueFd> SetDeviceStateFd(TransferDirection direction, int fd);
  /// Asks whether the transfer has worked. Call it after reading the state to its end, or after
  /// writing it and closing the descriptor. Internal (EIO) if the transfer has failed.
  absl::Status CheckDeviceState();
  /// Asks the back-end for an object that it has put into the SharedObjects. NotFound (ENOENT) if
  /// it has none.
  absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid);

  // --- Virtqueues. InvalidArgument for an index of kMaxQueues or more. ---

  /// Sends SET_VRING_NUM, _BASE, _ADDR, _ERR, _CALL, _KICK and _ENABLE, in this order.
  absl::Status StartVring(unsigned index, const VringSetup& setup);
  absl::Status SetVringNum(unsigned index, uint32_t size);
  absl::Status SetVringBase(unsigned index, uint32_t base);
  absl::Status SetVringAddr(const VringAddress& address);
  /// A negative descriptor stands for none.
  absl::Status SetVringKick(unsigned index, int fd);
  absl::Status SetVringCall(unsigned index, int fd);
  absl::Status SetVringErr(unsigned index, int fd);
  /// After @p enable false, the back-end takes no more chains from the virtqueue, but it may still
  /// write those that it has taken. GetVringBase() waits for these.
  absl::Status SetVringEnable(unsigned index, bool enable);
  absl::Status SetVringEndian(unsigned index, bool big_endian);
  /// Stops the virtqueue, removes its host notifier and forgets it; returns its base.
  absl::StatusOr<uint32_t> GetVringBase(unsigned index);
  /// Tells the back-end that there are buffers, by the kick descriptor or in-band. Doesn't wait.
  /// In-band, ResourceExhausted (ENOMEM) if too many requests wait to be sent: kick again later.
  absl::Status Kick(unsigned index);

  // --- Memory ---

  /// Gives the back-end the guest's memory, all of it: as one table of at most kMaxTableRegions,
  /// or, with kConfigureMemSlots, as the difference to memory(), for up to max_memory_slots()
  /// regions. ResourceExhausted (ENOSPC) beyond that; nothing was sent. If it fails halfway,
  /// memory() has the regions that the back-end has acknowledged, and the next call goes on from
  /// there. If the connection is over, it fails, and memory() has the regions that Reconnect() will
  /// send.
  ///
  /// The back-end gets a view of a guestmem, not the guestmem. A view has the region and no other
  /// byte, and the back-end can do nothing with it but map it (see MemoryView). The front-end
  /// revokes the view when the back-end has acknowledged the removal of the region, and when the
  /// connection ends for any reason; Reconnect() makes new ones. So call SetMemory() without a
  /// region before you withdraw its memory from the guest: if that succeeds, the back-end doesn't
  /// have the memory, even if it is hostile, except pages that it holds pinned. A back-end can
  /// refuse the removal, and has the memory then: if SetMemory() fails, Close() before you withdraw
  /// memory. Views are writable: back-ends map all regions for reading and writing (those of QEMU
  /// and DPDK do), so a read-only view is of no use to them. Unimplemented if a guestmem can't have
  /// a view; nothing was sent. Options::whole_guest_memory hands out guestmems instead.
  ///
  /// PermissionDenied (EPERM) for a file that Options::only_sealed_memory refuses; nothing was
  /// sent.
  ///
  /// With kConfigureMemSlots, while a virtqueue works, a region that has grown stays, and another
  /// one beside it holds the new part, as long as there are enough slots: virtqueues with rings in
  /// it go on. So memory() may have more regions than @p regions. This library's back-end lets a
  /// ring lie in both; others may refuse that. Reconnect() sends such parts as one region again,
  /// and so does SetMemory() while no virtqueue works. A region that has shrunk or moved is removed
  /// and added again: stop virtqueues with rings in it before.
  absl::Status SetMemory(absl::Span<const GuestRegion> regions);
  size_t max_memory_slots() const;
  /// The regions that the back-end has acknowledged.
  absl::Span<const SharedRegion> memory() const;

  /// Lets the back-end make the in-flight buffer, in which it remembers requests across its
  /// restart. Reconnect() gives the buffer to the next back-end.
  absl::Status StartInflight(uint16_t nr_queues, uint16_t queue_size);
  /// Gives the back-end an in-flight buffer from elsewhere, a migration for example.
  absl::Status SetInflight(const InflightArea& area, int fd);
  /// The buffer's descriptor; -1 if there is none.
  int inflight_fd() const;
  const InflightArea& inflight_area() const;

  /// Lets the back-end log its writes to guest memory, and to the used rings of those virtqueues
  /// whose address has a VringAddress::log. If this fails, the back-end may already log some of its
  /// writes: StopLog() ends that.
  absl::Status StartLog(const DirtyLog& log);
  absl::Status StopLog();

  /// Postcopy migration: announces it, says that the source has stopped, and ends it. Between
  /// PostcopyListen() and PostcopyEnd(), SetMemory() learns where the back-end has its memory.
  /// Unimplemented (EOPNOTSUPP) if the back-end has views of guestmems: a userfaultfd, with which
  /// it would wait for missing pages, can't register them. Between PostcopyAdvise() and
  /// PostcopyEnd(), SetMemory() makes no view for the same reason, and fails likewise.
  absl::Status PostcopyAdvise();
  absl::Status PostcopyListen();
  absl::Status PostcopyEnd();
  /// The back-end's faults, to use with memory(); valid until PostcopyEnd() or the connection's
  /// end. FailedPrecondition before PostcopyAdvise() and after PostcopyEnd(); after the
  /// connection's end, which ends the migration, too, the reason for it.
  absl::StatusOr<const Faults*> faults() const;

  ShmemRegions& shmem();

 private:
  Frontend(Options options, Handler* handler);

  void StartBytes(FrontendRequest request, absl::Span<const uint8_t> payload,
                  absl::Span<const int> fds, Requester::Done done, bool want_ack);
  absl::Status CallBytes(FrontendRequest request, absl::Span<const uint8_t> payload,
                         absl::Span<const int> fds, Confirm confirm, absl::Span<uint8_t> reply,
                         FdList* reply_fds);

  const std::unique_ptr<frontend_internal::FrontendImpl> impl_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_FRONTEND_H_
