// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_BACKEND_H_
#define GMEM_VHOST_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/connection.h"
#include "gmem/vhost/device.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/requester.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

class Server;

namespace backend_internal {
class Session;
}  // namespace backend_internal

/// Counts of the work of a virtqueue.
struct QueueCounters {
  /// Kicks of the driver and calls to it. Several at a time may count as one.
  uint64_t kicks = 0;
  uint64_t calls = 0;
  /// Chains that were pushed, and the bytes that the device could read or has written in them.
  uint64_t chains = 0;
  uint64_t bytes = 0;
  /// How often the virtqueue has failed.
  uint64_t errors = 0;
};

/// The back-end's side of one session with a front-end: it negotiates features, maps the guest's
/// memory, and runs the virtqueues, which a device serves.
///
/// With Options::has_queue_threads, threads of the library serve the virtqueues, in groups that
/// Device::QueueThread() says; the owner's loop does all the rest, in rounds during which no
/// virtqueue is served. So a change of memory, a translation, a stop or a reset waits for the calls
/// of the device that run, and Pop() brings nothing meanwhile, so that these calls come to an end.
/// A call that doesn't return for Device::stop_timeout() ends the session.
///
/// Nothing here blocks, except the methods whose documentation says so. The owner's loop calls
/// Process() when fd() is readable, and when next_deadline() has come. A request that breaks the
/// protocol is refused if the front-end asked for an acknowledgement; otherwise it ends the
/// session, and Process() returns the reason. There are two exceptions: a bad GET_CONFIG gets the
/// specification's error reply, and a SET_CONFIG or CLOSE_CRYPTO_SESSION whose result nobody wants
/// to know has no effect, because a driver can cause them.
///
/// A virtqueue works from SET_VRING_KICK (or VRING_KICK) on, as soon as its size and its addresses
/// are known. The device serves it while it is enabled. GET_VRING_BASE stops it; the answer comes
/// when no chain is in flight.
///
/// Virtqueues follow virtio 1: they are little-endian. ProtocolFeature::kCrossEndian isn't offered:
/// it serves legacy drivers, before VERSION_1, in guests whose CPU has another byte order than the
/// host.
///
/// A process can't guard itself against one action of the front-end, so the front-end must be
/// trusted not to do it: to shorten a file that is mapped (see GuestMemoryMap). The front-end can't
/// make this object wait: eventfds are signalled in a way that never waits, as long as the system
/// gives this process asynchronous requests (fs.aio-max-nr, io_setup(2)), and the pipe of a
/// device's state belongs to another thread, see Device::RunOnThread(). Without asynchronous
/// requests, a front-end that fills an eventfd and makes it blocking at the right moment makes a
/// signal wait.
///
/// Thread-compatible.
class Backend {
 public:
  /// The interval between two looks at a virtqueue without a kick (SET_VRING_KICK without a
  /// descriptor). The device's HandleDisabledQueue() is called at the same interval while such a
  /// virtqueue is disabled. GET_VRING_BASE ends it.
  static constexpr absl::Duration kPollInterval = absl::Milliseconds(1);
  /// Bytes that the state of a device may have at most, because the front-end sends it.
  static constexpr size_t kMaxStateSize = size_t{64} << 20;

  struct Options {
    /// How long the front-end may take to answer a request.
    absl::Duration timeout = kDefaultTimeout;
    /// Serve the virtqueues on threads.
    bool has_queue_threads = false;
  };
  /// As below. Also, with threads, ResourceExhausted (EAGAIN) if the system has no more of them.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(Connection connection, Device& device,
                                                         const Options& options);
  /// Begins a session. @p device must outlive the back-end; @p timeout is how long the front-end
  /// may take to answer a request. InvalidArgument (EINVAL) if the device's numbers and sizes are
  /// out of their bounds.
  static absl::StatusOr<std::unique_ptr<Backend>> Create(Connection connection, Device& device,
                                                         absl::Duration timeout = kDefaultTimeout);
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  /// Stops all virtqueues, ends all requests under way, and calls Device::Disconnected(). Waits for
  /// calls of the device on the threads of virtqueues, see can_end().
  ~Backend();

  /// For epoll: readable when Process() has work to do.
  int fd() const;
  absl::Time next_deadline() const;
  /// Does the work that can be done now. An error ends the session; all later calls return the same
  /// error.
  absl::Status Process();

  /// For programs without a loop of their own: serves until @p stop_fd, for example a signalfd, is
  /// readable, or until the session's end. OK, or the error that ended the session. Blocks.
  absl::Status Run(int stop_fd = -1);

  /// After an error of Process(): does the destructor have no call of the device to wait for? Look
  /// again when fd() is readable.
  bool can_end();

  /// The features that were negotiated.
  bool has_feature(VirtioFeature feature) const;
  bool has_feature(ProtocolFeature feature) const;
  uint64_t features() const;
  /// The guest's memory. Valid as long as the back-end.
  const GuestMemoryMap& memory() const;
  /// Has the front-end enabled the virtqueue? False if there is no virtqueue @p index.
  bool is_enabled(size_t index) const;
  /// A virtqueue that works, valid until Device::QueueStopped(); null if it doesn't work. On the
  /// thread of a virtqueue, also null for virtqueues of other threads: RunOnQueue() reaches these.
  /// A device that pops from another virtqueue than the one that it is called for must look first
  /// whether that is enabled, and calls its Notify() after a push.
  Virtqueue* queue(size_t index);

  /// The counts of a virtqueue since the session's begin. Any thread may call this.
  QueueCounters counters(size_t index) const;

  /// Calls @p ready again and again while @p fd, a descriptor of the device's own, is readable:
  /// on the thread of virtqueue @p queue, or in Process() without threads. Until Unwatch(), or the
  /// session's end. @p ready may find nothing to read, so it must not wait. Call both methods
  /// in a call for a virtqueue of that thread, or in one that overlaps with no other. The system's
  /// error if @p fd can't be watched, for example AlreadyExists (EEXIST) if that thread watches it
  /// already.
  absl::Status Watch(uint16_t queue, int fd, absl::AnyInvocable<void()> ready);
  /// Call this before @p fd is closed. Ignores a descriptor that isn't watched.
  void Unwatch(uint16_t queue, int fd);

  /// Runs @p work soon: on the thread of virtqueue @p queue, or in a round of Process(), during
  /// which no virtqueue is served. Any thread may call this between Device::Connected() and
  /// Device::Disconnected(). Work that hasn't run at the session's end never does. On the thread of
  /// a virtqueue, the requests to the front-end (below) need RunInSession().
  void RunOnQueue(uint16_t queue, absl::AnyInvocable<void()> work);
  void RunInSession(absl::AnyInvocable<void()> work);

  /// Can the front-end be asked for something?
  bool has_channel() const;

  /// The methods below ask the front-end for something. @p done is called once: from inside of this
  /// call, of Process(), of a call that waits, or of the destructor. Its argument is OK when the
  /// front-end has acknowledged the request, or, without ProtocolFeature::kReplyAck, when the
  /// request is sent. FailedPrecondition (ENOTCONN) if there is no channel, or a feature that the
  /// request needs wasn't negotiated.
  ///
  /// @p done may call the methods of the back-end, except Process(), and must not destroy it.
  using Done = absl::AnyInvocable<void(absl::Status)>;
  /// Maps a part of a file into a shared memory region of the guest, which can use it from the call
  /// of @p done on. The caller keeps @p fd.
  void ShmemMap(const ShmemMapping& mapping, int fd, Done done);
  /// Unmaps a whole mapping.
  void ShmemUnmap(const ShmemMapping& mapping, Done done);
  /// Announces that the configuration space has changed.
  void ConfigChanged(Done done);
  /// Lets the guest write to a part of a file, of one page, instead of sending a kick.
  /// @p offset and @p size are in bytes; @p fd -1 ends that.
  void SetHostNotifier(uint16_t queue, int fd, uint64_t offset, uint64_t size, Done done);
  void AddSharedObject(const Uuid& uuid, Done done);
  void RemoveSharedObject(const Uuid& uuid, Done done);
  /// Gets the object that another device has added. NotFound (ENOENT) if there is none.
  void LookUpSharedObject(const Uuid& uuid,
                          absl::AnyInvocable<void(absl::StatusOr<UniqueFd>)> done);

  /// Do the work of ShmemMap() and ShmemUnmap(), and wait for the answer: they block up to the
  /// timeout, and serve only the back-end channel meanwhile.
  ///
  /// Don't call them from QueueStopping() or QueueStarted(): a front-end that waits for this
  /// back-end may be unable to answer (QEMU 11.1 waits in SET_VRING_ENABLE, GET_VRING_BASE and
  /// ADD_MEM_REG).
  absl::Status ShmemMapAndWait(const ShmemMapping& mapping, int fd);
  absl::Status ShmemUnmapAndWait(const ShmemMapping& mapping);

 private:
  friend class Server;

  Backend();

  // Has the front-end closed its end? The session ends when Process() has dealt with what came
  // before that.
  bool has_frontend_gone() const;

  std::unique_ptr<backend_internal::Session> session_;
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_BACKEND_H_
