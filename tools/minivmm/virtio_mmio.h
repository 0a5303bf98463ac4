// SPDX-License-Identifier: MIT OR Apache-2.0
// The transport virtio-mmio (virtio 1.3, 4.2.2): the registers by which a guest drives a device.
// There are no legacy registers. The guest is untrusted: an access that the specification forbids
// does nothing, or the device stops and needs a reset.
#ifndef GMEM_TOOLS_MINIVMM_VIRTIO_MMIO_H_
#define GMEM_TOOLS_MINIVMM_VIRTIO_MMIO_H_

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/virtqueue.h"
#include "virtio_device.h"

namespace minivmm {

// Thread-safe: the vCPUs' threads read and write registers at the same time.
class VirtioMmio {
 public:
  static constexpr uint32_t kMagic = 0x74726976;   // "virt"
  static constexpr uint32_t kVendor = 0x6d656d67;  // "gmem"
  static constexpr uint32_t kVersion = 2;
  static constexpr uint32_t kMaxQueueSize = 64;
  // The features that the transport adds. A driver must take the first two. The second one makes
  // Linux use the DMA API, so a restricted-dma-pool is all that the device sees of guest memory.
  static constexpr uint64_t kNeeded =
      uint64_t{1} << VIRTIO_F_VERSION_1 | uint64_t{1} << VIRTIO_F_ACCESS_PLATFORM;
  // VIRTIO_RING_F_INDIRECT_DESC: its header, <linux/virtio_ring.h>, isn't C++.
  static constexpr uint64_t kIndirect = uint64_t{1} << 28;

  // @memory is the guest memory that the device may use. Both must outlive the object. The object
  // calls @interrupt for each interrupt of the guest. It holds its lock then, so @interrupt must
  // not call it.
  VirtioMmio(VirtioDevice* device, const gmem::vhost::GuestMemoryMap* memory,
             std::function<void()> interrupt)
      : device_(device), memory_(memory), interrupt_(std::move(interrupt)) {
    absl::MutexLock guard(&lock_);
    queues_.resize(device_->nr_queues());
  }
  VirtioMmio(const VirtioMmio&) = delete;
  VirtioMmio& operator=(const VirtioMmio&) = delete;

  // The guest reads or writes @size bytes, 1 to 8, at @offset of the registers. Bytes of @value
  // beyond @size are 0.
  uint64_t Read(uint64_t offset, uint32_t size) {
    absl::MutexLock guard(&lock_);
    if (offset >= VIRTIO_MMIO_CONFIG) return ReadConfig(offset - VIRTIO_MMIO_CONFIG, size);
    return size == kRegisterSize ? ReadRegister(offset) : 0;
  }
  void Write(uint64_t offset, uint32_t size, uint64_t value) {
    absl::MutexLock guard(&lock_);
    if (size == kRegisterSize) WriteRegister(offset, static_cast<uint32_t>(value));
  }

  // OK, or why the device needs a reset.
  absl::Status status() const {
    absl::MutexLock guard(&lock_);
    return failure_;
  }

 private:
  static constexpr uint32_t kRegisterSize = 4;
  // No shared memory region has this size: there is none.
  static constexpr uint32_t kNoRegion = ~uint32_t{0};

  struct Queue {
    uint32_t size = 0;
    uint64_t descriptors = 0, driver = 0, device = 0;
    // While the queue is ready.
    std::optional<gmem::vhost::Virtqueue> virtqueue;
  };

  uint64_t Offered() const { return device_->features() | kNeeded | kIndirect; }

  uint64_t ReadConfig(uint64_t offset, uint32_t size) const ABSL_SHARED_LOCKS_REQUIRED(lock_) {
    const std::vector<uint8_t> config = device_->config();
    uint64_t value = 0;
    if (size <= sizeof(value) && offset <= config.size() && size <= config.size() - offset) {
      std::memcpy(&value, config.data() + offset, size);
    }
    return value;
  }

  uint32_t ReadRegister(uint64_t offset) const ABSL_SHARED_LOCKS_REQUIRED(lock_) {
    switch (offset) {
      case VIRTIO_MMIO_MAGIC_VALUE:
        return kMagic;
      case VIRTIO_MMIO_VERSION:
        return kVersion;
      case VIRTIO_MMIO_DEVICE_ID:
        return device_->id();
      case VIRTIO_MMIO_VENDOR_ID:
        return kVendor;
      case VIRTIO_MMIO_DEVICE_FEATURES:
        return features_word_ < 2 ? static_cast<uint32_t>(Offered() >> 32 * features_word_) : 0;
      case VIRTIO_MMIO_QUEUE_NUM_MAX:
        return queue_index_ < queues_.size() ? kMaxQueueSize : 0;
      case VIRTIO_MMIO_QUEUE_READY:
        return queue_index_ < queues_.size() && queues_[queue_index_].virtqueue ? 1 : 0;
      case VIRTIO_MMIO_INTERRUPT_STATUS:
        return interrupt_status_;
      case VIRTIO_MMIO_STATUS:
        return status_;
      case VIRTIO_MMIO_SHM_LEN_LOW:
      case VIRTIO_MMIO_SHM_LEN_HIGH:
        return kNoRegion;
      default:
        // Only the driver's own choices change the configuration, so its generation is always 0.
        return 0;
    }
  }

  void WriteRegister(uint64_t offset, uint32_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    switch (offset) {
      case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        features_word_ = value;
        break;
      case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        driver_word_ = value;
        break;
      case VIRTIO_MMIO_DRIVER_FEATURES:
        SetDriverFeatures(value);
        break;
      case VIRTIO_MMIO_QUEUE_SEL:
        queue_index_ = value;
        break;
      case VIRTIO_MMIO_QUEUE_NOTIFY:
        Serve(value);
        break;
      case VIRTIO_MMIO_INTERRUPT_ACK:
        interrupt_status_ &= ~value;
        break;
      case VIRTIO_MMIO_STATUS:
        SetStatus(value);
        break;
      default:
        if (queue_index_ < queues_.size()) SetQueue(offset, value);
    }
  }

  void SetDriverFeatures(uint32_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (driver_word_ > 1 || !Has(VIRTIO_CONFIG_S_DRIVER) || Has(VIRTIO_CONFIG_S_FEATURES_OK)) {
      return;
    }
    SetHalf(driver_features_, driver_word_ == 1, value);
  }

  void SetQueue(uint64_t offset, uint32_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    Queue& queue = queues_[queue_index_];
    if (offset == VIRTIO_MMIO_QUEUE_READY) {
      SetReady(queue, value);
      return;
    }
    // The virtqueue has its place already.
    if (queue.virtqueue) return;
    switch (offset) {
      case VIRTIO_MMIO_QUEUE_NUM:
        queue.size = value;
        break;
      case VIRTIO_MMIO_QUEUE_DESC_LOW:
      case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        SetHalf(queue.descriptors, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
      case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
      case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        SetHalf(queue.driver, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
        break;
      case VIRTIO_MMIO_QUEUE_USED_LOW:
      case VIRTIO_MMIO_QUEUE_USED_HIGH:
        SetHalf(queue.device, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
        break;
      default:
        break;
    }
  }

  void SetReady(Queue& queue, uint32_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (value == 0) {
      queue.virtqueue.reset();
    } else if (value != 1) {
      Fail(absl::InvalidArgumentError(absl::StrCat("QueueReady is ", value, ", not 0 or 1")));
    } else if (!Has(VIRTIO_CONFIG_S_FEATURES_OK)) {
      Fail(absl::FailedPreconditionError("a virtqueue is ready before FEATURES_OK"));
    } else if (!queue.virtqueue && !Has(VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)) {
      Start(queue);
    }
  }

  void Start(Queue& queue) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (queue.size > kMaxQueueSize) {
      Fail(absl::InvalidArgumentError(absl::StrCat("virtqueue ", queue_index_, " has ", queue.size,
                                                   " entries, not at most ", kMaxQueueSize)));
      return;
    }
    const gmem::vhost::Virtqueue::Options options = {
        .index = static_cast<uint16_t>(queue_index_),
        .size = queue.size,
        .has_indirect = (driver_features_ & kIndirect) != 0};
    const auto sizes = gmem::vhost::Virtqueue::SizesOf(options);
    // Create() refuses memory that isn't there: it is empty.
    auto virtqueue = gmem::vhost::Virtqueue::Create(
        *memory_, options,
        {.descriptors = memory_->FromGuest(queue.descriptors, sizes.descriptors),
         .used = memory_->FromGuest(queue.device, sizes.used),
         .available = memory_->FromGuest(queue.driver, sizes.available)},
        /*base=*/0);
    if (!virtqueue.ok()) {
      Fail(virtqueue.status());
      return;
    }
    queue.virtqueue = *std::move(virtqueue);
    queue.virtqueue->set_call([this] {
      lock_.AssertHeld();
      Interrupt(VIRTIO_MMIO_INT_VRING);
    });
  }

  void Serve(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (!Has(VIRTIO_CONFIG_S_DRIVER_OK) || index >= queues_.size()) return;
    std::optional<gmem::vhost::Virtqueue>& virtqueue = queues_[index].virtqueue;
    if (!virtqueue) return;
    // A guest that adds chains without end keeps its own CPUs here, and nobody else's.
    uint64_t nr_popped = 0;
    absl::Status status;
    do {
      nr_popped = virtqueue->nr_popped();
      status = device_->Serve(*virtqueue);
      virtqueue->Notify();
    } while (status.ok() && virtqueue->status().ok() && virtqueue->nr_popped() != nr_popped);
    if (status.ok()) status = virtqueue->status();
    if (!status.ok()) Fail(status);
  }

  void SetStatus(uint32_t value) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (value == 0) {
      Reset();
      return;
    }
    if (Has(VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)) return;
    uint32_t status = value;
    // A driver reads the status again, to see whether the device took the features.
    if (!AreFeaturesOk()) status &= ~uint32_t{VIRTIO_CONFIG_S_FEATURES_OK};
    if ((status_ & ~value) != 0 || !IsStep(status & ~uint32_t{VIRTIO_CONFIG_S_FAILED})) {
      Fail(
          absl::InvalidArgumentError(absl::StrCat("the driver changes the status from 0x",
                                                  absl::Hex(status_), " to 0x", absl::Hex(value))));
      return;
    }
    if ((status & ~status_ & VIRTIO_CONFIG_S_FEATURES_OK) != 0) {
      device_->SetFeatures(driver_features_);
    }
    status_ = status;
    if (Has(VIRTIO_CONFIG_S_FAILED)) StopQueues();
  }

  // A driver sets one bit after the other (virtio 1.3, 3.1.1).
  static bool IsStep(uint32_t status) {
    constexpr uint32_t kFound = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    constexpr uint32_t kAgreed = kFound | VIRTIO_CONFIG_S_FEATURES_OK;
    return status == 0 || status == VIRTIO_CONFIG_S_ACKNOWLEDGE || status == kFound ||
           status == kAgreed || status == (kAgreed | VIRTIO_CONFIG_S_DRIVER_OK);
  }

  bool AreFeaturesOk() const ABSL_SHARED_LOCKS_REQUIRED(lock_) {
    return (driver_features_ & ~Offered()) == 0 && (driver_features_ & kNeeded) == kNeeded;
  }

  // Is one of these bits set?
  bool Has(uint32_t bits) const ABSL_SHARED_LOCKS_REQUIRED(lock_) { return (status_ & bits) != 0; }

  static void SetHalf(uint64_t& number, bool is_high, uint32_t value) {
    const uint64_t kept = is_high ? number & 0xffffffff : number >> 32 << 32;
    number = kept | uint64_t{value} << (is_high ? 32 : 0);
  }

  void Interrupt(uint32_t cause) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    interrupt_status_ |= cause;
    interrupt_();
  }

  void StopQueues() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    for (Queue& queue : queues_) queue.virtqueue.reset();
  }

  // The device does nothing more until the driver resets it.
  void Fail(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (!failure_.ok()) return;
    failure_ = why;
    StopQueues();
    status_ |= VIRTIO_CONFIG_S_NEEDS_RESET;
    if (Has(VIRTIO_CONFIG_S_DRIVER_OK)) Interrupt(VIRTIO_MMIO_INT_CONFIG);
  }

  void Reset() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    for (Queue& queue : queues_) queue = Queue();
    features_word_ = driver_word_ = queue_index_ = 0;
    driver_features_ = 0;
    status_ = interrupt_status_ = 0;
    failure_ = absl::OkStatus();
    device_->SetFeatures(0);
  }

  VirtioDevice* const device_;
  const gmem::vhost::GuestMemoryMap* const memory_;
  const std::function<void()> interrupt_;

  mutable absl::Mutex lock_;
  // Which of several the registers are about: words of features, and a queue.
  uint32_t features_word_ ABSL_GUARDED_BY(lock_) = 0, driver_word_ ABSL_GUARDED_BY(lock_) = 0;
  uint32_t queue_index_ ABSL_GUARDED_BY(lock_) = 0;
  uint64_t driver_features_ ABSL_GUARDED_BY(lock_) = 0;
  uint32_t status_ ABSL_GUARDED_BY(lock_) = 0, interrupt_status_ ABSL_GUARDED_BY(lock_) = 0;
  std::vector<Queue> queues_ ABSL_GUARDED_BY(lock_);
  absl::Status failure_ ABSL_GUARDED_BY(lock_);
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_VIRTIO_MMIO_H_
