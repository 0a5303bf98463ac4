// SPDX-License-Identifier: MIT OR Apache-2.0
#include "vhost/testing/driver_ring.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::doubles {

using internal::CheckError;
using internal::ErrnoError;

namespace {

constexpr uint16_t kDescriptorNext = 1;
constexpr uint16_t kDescriptorWrite = 2;
constexpr uint16_t kUsedNoNotify = 1;

uint16_t Load(uint16_t& from, std::memory_order order) {
  return std::atomic_ref<uint16_t>(from).load(order);
}

}  // namespace

struct DriverRing::Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

struct DriverRing::UsedElement {
  uint32_t id;
  uint32_t length;
};

absl::StatusOr<std::unique_ptr<DriverMemory>> DriverMemory::Create(size_t size,
                                                                   uint64_t guest_address) {
  UniqueFd fd(memfd_create("driver", MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make a file of ", size, " bytes"));
  }
  return Adopt(std::move(fd), size, guest_address);
}

absl::StatusOr<std::unique_ptr<DriverMemory>> DriverMemory::Adopt(UniqueFd fd, size_t size,
                                                                  uint64_t guest_address) {
  void* const base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return ErrnoError(errno, absl::StrCat("can't map ", size, " bytes"));
  return std::unique_ptr<DriverMemory>(
      new DriverMemory(std::move(fd), static_cast<uint8_t*>(base), size, guest_address));
}

DriverMemory::~DriverMemory() { munmap(base_, size_); }

MemoryRegion DriverMemory::region() const {
  return {.guest_address = guest_address_,
          .size = size_,
          .user_address = reinterpret_cast<uint64_t>(base_),
          .mmap_offset = 0};
}

absl::StatusOr<absl::Span<uint8_t>> DriverMemory::Allocate(size_t size, size_t alignment) {
  const size_t begin = (used_ + alignment - 1) & ~(alignment - 1);
  if (begin > size_ || size > size_ - begin) {
    return CheckError(ENOMEM,
                      absl::StrCat("can't allocate ", size, " bytes: too few are left of ", size_));
  }
  used_ = begin + size;
  return bytes().subspan(begin, size);
}

uint64_t DriverMemory::GuestAddress(const void* pointer) const {
  return guest_address_ + static_cast<uint64_t>(static_cast<const uint8_t*>(pointer) - base_);
}

absl::StatusOr<DriverRing> DriverRing::Create(DriverMemory& memory, uint16_t size) {
  DriverRing ring;
  ring.memory_ = &memory;
  ring.size_ = size;
  GMEM_ASSIGN_OR_RETURN(const auto descriptors, memory.Allocate(sizeof(Descriptor) * size, 4096));
  GMEM_ASSIGN_OR_RETURN(const auto available, memory.Allocate(2 * (size_t{size} + 3)));
  GMEM_ASSIGN_OR_RETURN(const auto used, memory.Allocate(6 + sizeof(UsedElement) * size, 4096));
  ring.descriptors_ = reinterpret_cast<Descriptor*>(descriptors.data());
  ring.available_ = reinterpret_cast<uint16_t*>(available.data());
  ring.used_ = reinterpret_cast<uint16_t*>(used.data());
  ring.kick_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  ring.call_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ring.kick_ || !ring.call_) return ErrnoError(errno, "can't make an eventfd");
  for (uint16_t i = size; i > 0; i--) ring.free_.push_back(i - 1);
  ring.lengths_.resize(size);
  return ring;
}

VringAddress DriverRing::address(uint32_t index) const {
  return {.index = index,
          .flags = 0,
          .descriptor = reinterpret_cast<uint64_t>(descriptors_),
          .used = reinterpret_cast<uint64_t>(used_),
          .available = reinterpret_cast<uint64_t>(available_),
          .log = 0};
}

uint16_t DriverRing::used_index() const { return Load(used_[1], std::memory_order_acquire); }

absl::StatusOr<uint16_t> DriverRing::Add(absl::Span<const Buffer> chain) {
  if (chain.empty() || chain.size() > free_.size()) {
    return CheckError(ENOSPC, absl::StrCat("a chain needs ", chain.size(), " descriptors, ",
                                           free_.size(), " are free"));
  }
  const uint16_t head = free_.back();
  for (size_t i = 0; i < chain.size(); i++) {
    Descriptor& descriptor = descriptors_[free_.back()];
    free_.pop_back();
    const bool is_last = i + 1 == chain.size();
    descriptor.address = memory_->GuestAddress(chain[i].bytes.data());
    descriptor.length = static_cast<uint32_t>(chain[i].bytes.size());
    descriptor.flags =
        (chain[i].is_writable ? kDescriptorWrite : 0) | (is_last ? 0 : kDescriptorNext);
    descriptor.next = is_last ? 0 : free_.back();
  }
  lengths_[head] = static_cast<uint16_t>(chain.size());
  available_[2 + next_available_ % size_] = head;
  next_available_++;
  std::atomic_ref<uint16_t>(available_[1]).store(next_available_, std::memory_order_release);
  return head;
}

void DriverRing::Kick() {
  // The device writes its flags and then reads the driver's index. The driver writes its index and
  // then reads the device's flags, so a fence must separate the two.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if ((Load(used_[0], std::memory_order_relaxed) & kUsedNoNotify) != 0) return;
  eventfd_write(kick_.get(), 1);
}

void DriverRing::Corrupt() {
  available_[2 + next_available_ % size_] = size_;
  next_available_++;
  std::atomic_ref<uint16_t>(available_[1]).store(next_available_, std::memory_order_release);
  Kick();
}

absl::StatusOr<std::optional<DriverRing::Used>> DriverRing::Next() {
  if (used_index() == next_used_) return std::nullopt;
  const auto* const elements = reinterpret_cast<const UsedElement*>(used_ + 2);
  const UsedElement element = elements[next_used_ % size_];
  if (element.id >= size_ || lengths_[element.id] == 0) {
    return CheckError(
        EBADMSG, absl::StrCat("the device returned chain ", element.id, ", which it doesn't have"));
  }
  next_used_++;
  const auto head = static_cast<uint16_t>(element.id);
  uint16_t descriptor = head;
  for (; lengths_[head] > 0; lengths_[head]--) {
    free_.push_back(descriptor);
    descriptor = descriptors_[descriptor].next;
  }
  return Used{.head = head, .written = element.length};
}

absl::StatusOr<DriverRing::Used> DriverRing::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (true) {
    GMEM_ASSIGN_OR_RETURN(const std::optional<Used> used, Next());
    if (used.has_value()) return *used;
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return CheckError(
          ETIMEDOUT, absl::StrCat("the device used no chain in ", absl::FormatDuration(timeout)));
    }
    pollfd call = {.fd = call_.get(), .events = POLLIN, .revents = 0};
    poll(&call, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    eventfd_t calls = 0;
    eventfd_read(call_.get(), &calls);
  }
}

}  // namespace gmem::vhost::doubles
