// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_VHOST_DEVICE_H_
#define GMEM_VHOST_DEVICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

class Backend;

/// The part of a back-end that a device's author writes; Backend does the rest. A device serves one
/// front-end at a time, and the next front-end when that session has ended.
///
/// Backend calls these methods from inside of Create(), Process() and its destructor. They may call
/// the methods of the back-end, except Process(), and must not destroy it.
///
/// Virtqueues may have threads (Backend::Options::has_queue_threads), which then make the calls for
/// virtqueues. Three rules hold. Calls for virtqueues are HandleQueue(), HandleDisabledQueue(), and
/// what Backend::Watch() and Backend::RunOnQueue() run; those for virtqueues of the same thread
/// never overlap. All other calls, except PostcopyFailed(), overlap with no call at all. So only
/// what calls for virtqueues of different threads change needs a lock: whatever just one
/// virtqueue's calls use, and whatever those calls only read, does not. QueueCalls lets clang check
/// that.
///
/// The arguments come from the front-end or the driver: they are untrusted, except where a method
/// says how they were checked. Methods that a device may not need have defaults.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  /// Bits of the virtio features of this device type. The library adds those of the rings and of
  /// the protocol, which it implements for every device.
  virtual uint64_t features() const = 0;
  /// Virtqueues: 1 to kMaxQueues, always the same.
  virtual uint16_t nr_queues() const = 0;

  /// Bits of the protocol features that the device implements: kNetMtu, kRarp, kCryptoSession,
  /// kHostNotifier, kSharedObject, kDeviceState. The library adds those that it implements for
  /// every device, and those that follow from config_size() and shmem_sizes().
  ///
  /// kPagefault is also possible, for postcopy migration, but needs more trust in the front-end: it
  /// gets a userfaultfd of this process, with which it can write to any memory of the process that
  /// isn't there yet, and learns where regions are mapped. A touch of guest memory waits for its
  /// page until the front-end brings it, see PostcopyFailed().
  ///
  /// kGetVringBaseInflight is for a device that can cancel chains in flight: if the front-end has
  /// set an inflight buffer, a virtqueue stops without waiting. The chains that QueueStopping()
  /// doesn't push are done again, by this back-end or by another one.
  virtual uint64_t protocol_features() const { return 0; }

  /// Serves a virtqueue that may have chains to Pop(). Called after a kick, and again while there
  /// are more chains, as long as each call pops one: it may leave some for the next call. A device
  /// that pops nothing has to wait for something else, a packet for example, and is called at the
  /// next kick: a virtqueue that is waited for costs nothing.
  ///
  /// The device may keep chains, and push them later from the same thread; then queue.Notify() must
  /// follow. It may also Pop() at any time between QueueStarted() and QueueStopping(), from the
  /// same thread, of another virtqueue, too (Backend::queue()). After an error, the front-end and
  /// the driver learn that the virtqueue has failed, and it isn't served until it starts again, see
  /// QueueFailed().
  ///
  /// An error of the device, if queue.status() is OK, gives up the chains that this call popped and
  /// that are still in flight: from here on, the device must not touch them. So return no error
  /// after something has begun on such a chain: push the chain when that is done.
  virtual absl::Status HandleQueue(Backend& backend, Virtqueue& queue) = 0;

  /// Called instead of HandleQueue() while a virtqueue works but is disabled, and once when it
  /// becomes disabled. The specification wants such a virtqueue to be processed "without causing
  /// any side effects", and only the device knows its side effects. For example, a network device
  /// pushes the packets to send without sending them, and pushes no packets that it received.
  ///
  /// The default leaves all chains in the ring until the virtqueue is enabled: a disk can't drop
  /// writes. SET_VRING_ENABLE waits for nothing: the device goes on with the chains that are in
  /// flight, and pushes them into the disabled virtqueue. The front-end learns from the answer to
  /// GET_VRING_BASE that they are done. Errors: as HandleQueue().
  virtual absl::Status HandleDisabledQueue(Backend& /*backend*/, Virtqueue& /*queue*/) {
    return absl::OkStatus();
  }

  /// The driver's choice of features().
  virtual void SetFeatures(uint64_t /*features*/) {}

  /// Bytes of the configuration space: 0 to kMaxConfigSize, always the same.
  virtual uint32_t config_size() const { return 0; }
  /// Fills @p to with the bytes from @p offset on, all of which lie in the configuration space.
  virtual absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to);
  /// Writes bytes that lie in the configuration space. @p flags is kConfigWritable or
  /// kConfigMigration.
  virtual absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from, uint32_t flags);

  /// A virtqueue begins to work; it may still be disabled.
  virtual void QueueStarted(Backend& /*backend*/, Virtqueue& /*queue*/) {}
  /// The front-end wants to stop a virtqueue that has chains in flight, or to reset the device.
  /// Virtqueue::Unpop() those on which nothing has begun, the last first: the next back-end gets
  /// them, after a migration too. Unpop() refuses those that the back-end before this one had
  /// already. Push the others soon, before stop_timeout(). The front-end may wait for that with its
  /// main thread, and then it doesn't answer the device's requests. With kGetVringBaseInflight, the
  /// virtqueue may stop right after this call. The library has already taken back chains of a
  /// receive queue: forget those for which queue.IsInFlight() is false.
  virtual void QueueStopping(Backend& /*backend*/, Virtqueue& /*queue*/) {}
  /// A virtqueue has failed, because the driver broke a rule or HandleQueue() returned an error. It
  /// isn't served until it stops and starts again. Chains in flight, except those that the error
  /// has given up, are as those of any other virtqueue: push them when they are done. Until then,
  /// the virtqueue can't stop, and their memory can't go.
  virtual void QueueFailed(uint16_t /*index*/, const absl::Status& /*why*/) {}
  /// A virtqueue has ended: from here on, the device must not touch it or its chains, pushed or
  /// not. At the session's end this comes without QueueStopping(), and guest memory goes after it:
  /// cancel here what is still under way, or wait for it.
  virtual void QueueStopped(uint16_t /*index*/) {}

  /// The driver or the front-end resets the device. All virtqueues have stopped, and the front-end
  /// has unmapped all shared memory.
  virtual void Reset() {}
  /// The driver has set the device status: bits of DeviceStatus, not 0.
  virtual void SetStatus(uint8_t /*status*/) {}

  /// A session begins and ends; the device may use @p backend in between.
  virtual void Connected(Backend& /*backend*/) {}
  virtual void Disconnected() {}
  /// The session ends while the front-end still serves the faults of guest memory (postcopy
  /// migration), or the front-end has gone. A thread, or a system call of the device, that touches
  /// a page which isn't there waits for ever. End the process here, for example by _exit(): then
  /// nothing finds zeroes in the place of guest memory, and an inflight buffer keeps the requests
  /// for the next back-end. May be called again and again, and while calls for virtqueues run.
  /// Not called while the session's own thread waits for a page, as it may without threads for
  /// virtqueues.
  virtual void PostcopyFailed() {}
  /// The front-end has opened the back-end channel: from here on, Backend's requests work.
  virtual void ChannelOpened(Backend& /*backend*/) {}

  /// Bytes of the shared memory regions, by shmid: multiples of the page size, 0 for no region.
  /// Always the same. The library offers kShmemMap if the list isn't empty.
  virtual std::vector<uint64_t> shmem_sizes() const { return {}; }

  /// With ProtocolFeature::kDeviceState: the state that a device of the same kind needs to go on in
  /// another process, at most Backend::kMaxStateSize bytes. All virtqueues have stopped. The state
  /// that LoadState() gets is untrusted.
  virtual absl::StatusOr<std::string> SaveState();
  virtual absl::Status LoadState(absl::string_view state);

  /// With ProtocolFeature::kNetMtu.
  virtual absl::Status SetMtu(uint64_t mtu);
  /// With ProtocolFeature::kRarp; the low 6 bytes are the MAC address.
  virtual absl::Status SendRarp(uint64_t mac_address);
  /// With ProtocolFeature::kCryptoSession: returns the new session's number.
  virtual absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session);
  virtual absl::Status CloseCryptoSession(uint64_t session_id);
  /// With ProtocolFeature::kSharedObject: another device asks for an object that this one has
  /// added.
  virtual absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid);
  /// For vhost-user-gpu (GPU_SET_SOCKET). @p socket is a socket, of any kind.
  virtual absl::Status SetGpuSocket(UniqueFd socket);

  /// Is this a virtqueue whose chains the driver gives in advance, for what will come, as a network
  /// device's receive queues? The device may leave chains in the ring, or hold them. It must begin
  /// nothing on a chain before it pushes it, all within one call. So the library may take back the
  /// chains that it holds: at a stop, so that the next back-end gets them, and before guest memory
  /// goes. It can't take back a chain if one that was popped later was pushed, so push chains in
  /// the order of their pops. QueueStopping() and MemoryRemoved() ask for chains that are left.
  virtual bool IsReceiveQueue(uint16_t /*index*/) const { return false; }
  /// The front-end removes guest memory in which chains in flight of @p queue lie, those for which
  /// queue.IsInRemovedMemory() is true, and @p queue goes on. Give them back as QueueStopping()
  /// says, before stop_timeout(). The front-end may wait for that with its main thread, and then it
  /// doesn't answer the device's requests: don't wait for these either.
  virtual void MemoryRemoved(Backend& /*backend*/, Virtqueue& /*queue*/) {}
  /// The library has taken back chains of a receive queue that goes on. Forget those for which
  /// queue.IsInFlight() is false: their memory may be gone. HandleQueue() follows, or
  /// HandleDisabledQueue(), unless the virtqueue has failed.
  virtual void ChainsTakenBack(Backend& /*backend*/, Virtqueue& /*queue*/) {}

  /// How long the device may take to complete the chains in flight of a virtqueue that stops, of
  /// all virtqueues at a reset, or those in memory that the front-end removes. After that the
  /// session ends, since a front-end must never take memory for free into which a device still
  /// writes. The default is less than kDefaultTimeout, so that a front-end with this limit learns
  /// the end of the session, and not only that there was no answer.
  virtual absl::Duration stop_timeout() const { return absl::Seconds(8); }

  /// With ProtocolFeature::kDeviceState: runs @p work on another thread than the back-end's, for
  /// example a new std::thread, and returns at once. @p work moves the state between SaveState() or
  /// LoadState(), which run on the back-end's thread, and the front-end's pipe. It ends with the
  /// transfer, or soon after the session, but the front-end can keep it from that as long as it
  /// likes: let nothing wait for the thread. @p work uses neither the device nor the back-end. The
  /// default refuses: then there is no transfer.
  virtual absl::Status RunOnThread(absl::AnyInvocable<void()> work);

  /// The thread of a virtqueue, if virtqueues have threads: any number, always the same. Virtqueues
  /// with the same number share a thread. By default, each has its own.
  virtual uint16_t QueueThread(uint16_t index) const { return index; }
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DEVICE_H_
