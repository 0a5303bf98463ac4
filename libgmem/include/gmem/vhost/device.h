// SPDX-License-Identifier: Apache-2.0
#ifndef GMEM_VHOST_DEVICE_H_
#define GMEM_VHOST_DEVICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "gmem/vhost/virtqueue.h"

namespace gmem::vhost {

class Backend;

/// What a device author writes; Backend does the rest. One device serves one front-end at
/// a time, and the next when that is gone. All calls come from inside of
/// Backend::Process(); none may destroy the backend.
///
/// What a method is told by the front-end is untrusted beyond what is said here. Methods
/// that a device doesn't need have defaults.
class Device {
 public:
  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  /// Bits of the virtio features that are the device's own. Those of the rings and of the
  /// protocol are added: the library does them for every device.
  virtual uint64_t features() const = 0;
  /// 1 to kMaxQueues.
  virtual uint16_t nr_queues() const = 0;

  /// Protocol features that the device has beyond those that the library does for every
  /// device, or finds in the methods below: kNetMtu, kRarp, kCryptoSession, kHostNotifier,
  /// kSharedObject, kDeviceState.
  ///
  /// And kPagefault, for postcopy migration, which takes more trust: the front-end gets a
  /// userfaultfd of this process, with which it can write to any memory of it that is not
  /// there yet, and learns where regions are mapped.
  ///
  /// And kGetVringBaseInflight, for a device that can cancel what is in flight: where the
  /// front-end has set an inflight buffer, a virtqueue stops without waiting, and what
  /// QueueStopping() doesn't push is done again, here or elsewhere.
  virtual uint64_t protocol_features() const { return 0; }

  /// There may be chains to Pop(). Called after a kick, and again while there are more;
  /// it may leave some for the next call. Chains may be kept, and pushed later, from the
  /// same thread; then queue.Notify() must follow. An error is told the front-end, and
  /// the virtqueue is not served until it is started again.
  virtual absl::Status HandleQueue(Backend& backend, Virtqueue& queue) = 0;

  /// The same, in HandleQueue()'s place, while a virtqueue works but is disabled: also
  /// called once when it becomes that. The specification wants it to be processed
  /// "without causing any side effects", and only the device knows what these are. A
  /// network device gives back what it was to send, and does nothing with it; it must not
  /// push what it received, either. The default leaves all where it is, until the
  /// virtqueue is enabled: what a disk is to write can't be thrown away.
  virtual absl::Status HandleDisabledQueue(Backend& /*backend*/, Virtqueue& /*queue*/) {
    return absl::OkStatus();
  }

  /// The driver's choice of features().
  virtual void SetFeatures(uint64_t /*features*/) {}

  /// Bytes of the configuration space: 0 to kMaxConfigSize.
  virtual uint32_t config_size() const { return 0; }
  /// Fills @p to, all of which lies in the configuration space.
  virtual absl::Status ReadConfig(uint32_t offset, absl::Span<uint8_t> to);
  /// @p flags is kConfigWritable or kConfigMigration; the bytes lie in the configuration
  /// space.
  virtual absl::Status WriteConfig(uint32_t offset, absl::Span<const uint8_t> from, uint32_t flags);

  /// A virtqueue begins to work; it may be disabled for now.
  virtual void QueueStarted(Backend& /*backend*/, Virtqueue& /*queue*/) {}
  /// A virtqueue is to stop, with chains in flight: push them, soon. The front-end waits
  /// for that, perhaps with its main thread: what the device has asked it for may have to
  /// wait, too. With kGetVringBaseInflight, see above, there is no time but this call.
  virtual void QueueStopping(Backend& /*backend*/, Virtqueue& /*queue*/) {}
  /// A virtqueue isn't served any more, because of the driver, or of an error of
  /// HandleQueue(); the front-end has been told.
  virtual void QueueFailed(uint16_t /*index*/, const absl::Status& /*why*/) {}
  /// A virtqueue is gone: no chain of it may be touched any more, pushed or not.
  virtual void QueueStopped(uint16_t /*index*/) {}

  /// The driver, or the front-end, resets the device. All virtqueues have stopped, and all
  /// shared memory is unmapped.
  virtual void Reset() {}
  /// Bits of DeviceStatus.
  virtual void SetStatus(uint8_t /*status*/) {}

  /// A front-end has come, and one has gone; in between, @p backend may be used.
  virtual void Connected(Backend& /*backend*/) {}
  virtual void Disconnected() {}
  /// The front-end can be asked now: Backend's requests work from here on.
  virtual void ChannelOpened(Backend& /*backend*/) {}

  /// Sizes of the shared memory regions, by shmid: multiples of the page size, 0 for
  /// none. Always the same. kShmemMap is offered if there are some.
  virtual std::vector<uint64_t> shmem_sizes() const { return {}; }

  /// With ProtocolFeature::kDeviceState: what a device of the same kind needs to go on
  /// elsewhere. All virtqueues have stopped. What is loaded is untrusted.
  virtual absl::StatusOr<std::string> SaveState();
  virtual absl::Status LoadState(absl::string_view state);

  /// With kNetMtu, kRarp (the MAC address is in the low 6 bytes), kCryptoSession.
  virtual absl::Status SetMtu(uint64_t mtu);
  virtual absl::Status SendRarp(uint64_t mac_address);
  virtual absl::StatusOr<int64_t> CreateCryptoSession(const CryptoSession& session);
  virtual absl::Status CloseCryptoSession(uint64_t session_id);
  /// With kSharedObject: another device asks for what this one has added.
  virtual absl::StatusOr<UniqueFd> GetSharedObject(const Uuid& uuid);
  /// For vhost-user-gpu.
  virtual absl::Status SetGpuSocket(UniqueFd socket);
};

}  // namespace gmem::vhost

#endif  // GMEM_VHOST_DEVICE_H_
