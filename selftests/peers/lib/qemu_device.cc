// SPDX-License-Identifier: MIT OR Apache-2.0
#include "lib/qemu_device.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "lib/peer.h"
#include "lib/qtest.h"

namespace gmem::vhost::peers {
namespace {

// The device is number 4 on bus 0.
constexpr uint32_t kDevice = 4;
constexpr uint16_t kConfigAddress = 0xcf8;
constexpr uint16_t kConfigData = 0xcfc;

// Offsets in the configuration space (PCI 3.0, 6.1).
constexpr uint8_t kCommand = 0x04;
constexpr uint8_t kBar0 = 0x10;
constexpr uint8_t kCapabilities = 0x34;
constexpr uint32_t kCommandMemory = 0x2;
constexpr uint32_t kCommandMaster = 0x4;
constexpr uint32_t kBarIsIo = 0x1;
constexpr uint32_t kBarIs64 = 0x4;
constexpr uint8_t kVendorCapability = 0x09;

// Types of the capabilities of a virtio device (virtio 1.3, 4.1.4), and offsets in the structure of
// the first one.
constexpr uint8_t kCommonCapability = 1;
constexpr uint8_t kNotifyCapability = 2;
constexpr uint8_t kShmCapability = 8;
constexpr uint64_t kFeatureSelect = 0;
constexpr uint64_t kFeature = 4;
constexpr uint64_t kDriverFeatureSelect = 8;
constexpr uint64_t kDriverFeature = 12;
constexpr uint64_t kNumQueues = 18;
constexpr uint64_t kDeviceStatus = 20;
constexpr uint64_t kQueueSelect = 22;
constexpr uint64_t kQueueSize = 24;
constexpr uint64_t kQueueEnable = 28;
constexpr uint64_t kQueueDescriptors = 32;
constexpr uint64_t kQueueDriver = 40;
constexpr uint64_t kQueueDevice = 48;

// Features 32 (VERSION_1) and 33 (ACCESS_PLATFORM).
constexpr uint32_t kHighFeatures = 0x3;

constexpr uint32_t kAcknowledge = 1;
constexpr uint32_t kDriver = 2;
constexpr uint32_t kDriverOk = 4;
constexpr uint32_t kFeaturesOk = 8;

// Flags of a descriptor (virtio 1.3, 2.7.5).
constexpr uint32_t kDescriptorNext = 1;
constexpr uint32_t kDescriptorWrite = 2;
constexpr absl::Duration kTimeout = absl::Seconds(20);

// Guest addresses. There is no firmware, so nothing else uses the devices' addresses below 4 GiB.
constexpr uint64_t kBarsBegin = 0xc0000000;
constexpr uint64_t kRingsBegin = 0x100000;
constexpr uint64_t kRingSpacing = 0x4000;
constexpr uint32_t kRingSize = 64;
// A ring's space begins with the descriptors. These are the offsets of its other parts.
constexpr uint64_t kAvailableOffset = 0x1000;
constexpr uint64_t kUsedOffset = 0x2000;
constexpr uint64_t kBufferOffset = 0x3000;
constexpr uint64_t kAnswerOffset = 0x3800;

}  // namespace

absl::StatusOr<std::unique_ptr<QemuDevice>> QemuDevice::Start(const ScratchFolder& folder,
                                                              const std::string& socket,
                                                              Qtest::Idle idle) {
  const std::string control = folder.path("qtest");
  GMEM_ASSIGN_OR_RETURN(
      Peer qemu,
      Peer::StartPackaged(
          {"qemu-system-x86_64",
           "-accel",
           "qtest",
           "-qtest",
           absl::StrCat("unix:", control, ",server=on,wait=off"),
           "-qtest-log",
           "/dev/null",
           "-m",
           "256M",
           "-nodefaults",
           "-display",
           "none",
           "-vga",
           "none",
           "-object",
           "memory-backend-memfd,id=mem,size=256M,share=on",
           "-machine",
           "q35,memory-backend=mem",
           "-chardev",
           absl::StrCat("socket,id=c0,path=", socket),
           "-device",
           absl::StrCat("vhost-user-test-device-pci,chardev=c0,virtio-id=26,num_vqs=2,vq_size=128,"
                        "config_size=0,addr=",
                        kDevice)}));
  GMEM_ASSIGN_OR_RETURN(std::unique_ptr<Qtest> qtest, Qtest::Connect(control, std::move(idle)));
  auto device = std::unique_ptr<QemuDevice>(new QemuDevice(std::move(qemu), std::move(qtest)));
  GMEM_RETURN_IF_ERROR(device->PlaceBars());
  GMEM_RETURN_IF_ERROR(device->FindCapabilities());
  return device;
}

absl::StatusOr<uint32_t> QemuDevice::ReadConfig(uint8_t offset) {
  GMEM_RETURN_IF_ERROR(qtest_->Out(kConfigAddress, 0x80000000 | kDevice << 11 | (offset & 0xfc)));
  return qtest_->In(kConfigData);
}

absl::Status QemuDevice::WriteConfig(uint8_t offset, uint32_t value) {
  GMEM_RETURN_IF_ERROR(qtest_->Out(kConfigAddress, 0x80000000 | kDevice << 11 | offset));
  return qtest_->Out(kConfigData, value);
}

absl::Status QemuDevice::PlaceBars() {
  uint64_t next = kBarsBegin;
  for (int bar = 0; bar < kBars; bar++) {
    const auto offset = static_cast<uint8_t>(kBar0 + 4 * bar);
    GMEM_RETURN_IF_ERROR(WriteConfig(offset, 0xffffffff));
    GMEM_ASSIGN_OR_RETURN(const uint32_t mask, ReadConfig(offset));
    if (mask == 0 || (mask & kBarIsIo) != 0) continue;
    const uint64_t size = ~(mask & ~uint32_t{0xf}) + uint32_t{1};
    next = (next + size - 1) / size * size;
    GMEM_RETURN_IF_ERROR(WriteConfig(offset, static_cast<uint32_t>(next)));
    bars_[bar] = next;
    next += size;
    if ((mask & kBarIs64) != 0) {
      bar++;
      GMEM_RETURN_IF_ERROR(WriteConfig(static_cast<uint8_t>(offset + 4), 0));
    }
  }
  return WriteConfig(kCommand, kCommandMemory | kCommandMaster);
}

absl::Status QemuDevice::FindCapabilities() {
  GMEM_ASSIGN_OR_RETURN(uint32_t next, ReadConfig(kCapabilities));
  next &= 0xff;
  while (next != 0) {
    const auto at = static_cast<uint8_t>(next);
    GMEM_ASSIGN_OR_RETURN(const uint32_t head, ReadConfig(at));
    next = head >> 8 & 0xff;
    if ((head & 0xff) != kVendorCapability) continue;
    GMEM_ASSIGN_OR_RETURN(const uint32_t bar_and_id, ReadConfig(at + 4));
    GMEM_ASSIGN_OR_RETURN(uint64_t offset, ReadConfig(at + 8));
    GMEM_ASSIGN_OR_RETURN(uint64_t size, ReadConfig(at + 12));
    const uint32_t bar = bar_and_id & 0xff;
    const uint32_t type = head >> 24;
    if (bar >= kBars) continue;
    if (type == kCommonCapability) common_ = bars_[bar] + offset;
    // Virtqueue 0 has the first address, whatever the multiplier is.
    if (type == kNotifyCapability) notify_ = bars_[bar] + offset;
    if (type == kShmCapability) {
      GMEM_ASSIGN_OR_RETURN(const uint64_t offset_high, ReadConfig(at + 16));
      GMEM_ASSIGN_OR_RETURN(const uint64_t size_high, ReadConfig(at + 20));
      offset |= offset_high << 32;
      size |= size_high << 32;
      regions_[static_cast<uint8_t>(bar_and_id >> 8)] = {bars_[bar] + offset, size};
    }
  }
  if (common_ == 0) return absl::NotFoundError("QEMU's device has no common configuration");
  return absl::OkStatus();
}

absl::Status QemuDevice::StartDriver() {
  asked_ = 0;
  GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kDeviceStatus, kAcknowledge | kDriver, 1));
  // This driver needs VERSION_1 only, but a device that offers ACCESS_PLATFORM insists on it.
  for (uint32_t half = 0; half < 2; half++) {
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kFeatureSelect, half));
    GMEM_ASSIGN_OR_RETURN(const uint32_t offered, qtest_->Read(common_ + kFeature));
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kDriverFeatureSelect, half));
    const uint32_t wanted = half == 0 ? 0 : kHighFeatures;
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kDriverFeature, offered & wanted));
  }
  const uint32_t negotiated = kAcknowledge | kDriver | kFeaturesOk;
  GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kDeviceStatus, negotiated, 1));
  GMEM_ASSIGN_OR_RETURN(const uint32_t status, qtest_->Read(common_ + kDeviceStatus, 1));
  if ((status & kFeaturesOk) == 0) return absl::InternalError("the device refuses the features");
  GMEM_ASSIGN_OR_RETURN(const uint32_t queues, qtest_->Read(common_ + kNumQueues, 2));
  for (uint32_t queue = 0; queue < queues; queue++) {
    const uint64_t ring = kRingsBegin + kRingSpacing * queue;
    // Clear the indices of the last start.
    for (const uint64_t part : {kAvailableOffset, kUsedOffset}) {
      GMEM_RETURN_IF_ERROR(qtest_->Write(ring + part, 0));
    }
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kQueueSelect, queue, 2));
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kQueueSize, kRingSize, 2));
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kQueueDescriptors, static_cast<uint32_t>(ring)));
    GMEM_RETURN_IF_ERROR(
        qtest_->Write(common_ + kQueueDriver, static_cast<uint32_t>(ring + kAvailableOffset)));
    GMEM_RETURN_IF_ERROR(
        qtest_->Write(common_ + kQueueDevice, static_cast<uint32_t>(ring + kUsedOffset)));
    GMEM_RETURN_IF_ERROR(qtest_->Write(common_ + kQueueEnable, 1, 2));
  }
  return qtest_->Write(common_ + kDeviceStatus, negotiated | kDriverOk, 1);
}

absl::Status QemuDevice::Reset() { return qtest_->Write(common_ + kDeviceStatus, 0, 1); }

absl::StatusOr<std::vector<uint8_t>> QemuDevice::Ask(absl::Span<const uint8_t> request,
                                                     size_t answer_size) {
  constexpr uint64_t kBuffer = kRingsBegin + kBufferOffset;
  constexpr uint64_t kAnswer = kRingsBegin + kAnswerOffset;
  GMEM_RETURN_IF_ERROR(qtest_->WriteBytes(kBuffer, request));
  GMEM_RETURN_IF_ERROR(qtest_->WriteBytes(kAnswer, std::vector<uint8_t>(answer_size, 0xee)));
  // Descriptors 0 and 1: address, length, flags and the number of the next descriptor.
  const std::array<uint32_t, 8> descriptors = {
      static_cast<uint32_t>(kBuffer),        0,
      static_cast<uint32_t>(request.size()), kDescriptorNext | 1 << 16,
      static_cast<uint32_t>(kAnswer),        0,
      static_cast<uint32_t>(answer_size),    kDescriptorWrite};
  for (size_t i = 0; i < descriptors.size(); i++) {
    GMEM_RETURN_IF_ERROR(qtest_->Write(kRingsBegin + 4 * i, descriptors[i]));
  }
  const uint64_t available = kRingsBegin + kAvailableOffset;
  GMEM_RETURN_IF_ERROR(qtest_->Write(available + 4 + 2 * (asked_ % kRingSize), 0, 2));
  GMEM_RETURN_IF_ERROR(qtest_->Write(available + 2, ++asked_, 2));
  GMEM_RETURN_IF_ERROR(qtest_->Write(notify_, 0, 2));
  for (const absl::Time deadline = absl::Now() + kTimeout; absl::Now() < deadline;) {
    GMEM_ASSIGN_OR_RETURN(const uint32_t used, qtest_->Read(kRingsBegin + kUsedOffset + 2, 2));
    if (used == asked_) return qtest_->ReadBytes(kAnswer, answer_size);
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::DeadlineExceededError("the device doesn't answer");
}

}  // namespace gmem::vhost::peers
