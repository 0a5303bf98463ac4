// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/driver_ring.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/uptime.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/shared_access.h"
#include "vhost/wire/event_signal.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using internal::ErrnoError;
using virtqueue_internal::kDescriptorNext;
using virtqueue_internal::kDescriptorWrite;
using virtqueue_internal::kSplitEntries;
using virtqueue_internal::kSplitFlags;
using virtqueue_internal::kSplitIndex;
using virtqueue_internal::kSplitNoNotify;
using virtqueue_internal::LoadAcquire;
using virtqueue_internal::LoadOnce;
using virtqueue_internal::SplitDescriptor;
using virtqueue_internal::SplitUsedEntry;
using virtqueue_internal::StoreRelease;

constexpr size_t kAlign = 16;

constexpr size_t AvailableAt(size_t size) { return sizeof(SplitDescriptor) * size; }
// Behind the entries of the available part comes an event index, which nobody uses here.
constexpr size_t UsedAt(size_t size) {
  const size_t end = AvailableAt(size) + kSplitEntries + 2 * size + 2;
  return (end + kAlign - 1) / kAlign * kAlign;
}

// Is @part in @whole?
bool Contains(absl::Span<const uint8_t> whole, absl::Span<const uint8_t> part) {
  const auto begin = reinterpret_cast<uintptr_t>(whole.data());
  const auto at = reinterpret_cast<uintptr_t>(part.data());
  return at >= begin && at - begin <= whole.size() && part.size() <= whole.size() - (at - begin);
}

}  // namespace

class __attribute__((visibility("hidden"))) DriverRing::Impl {
 public:
  Impl(const Memory& memory, absl::Span<uint8_t> ring, uint32_t size)
      : memory_(memory),
        size_(size),
        descriptors_(ring.data()),
        available_(ring.data() + AvailableAt(size)),
        used_(ring.data() + UsedAt(size)),
        kick_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        call_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        entries_(size) {
    std::fill_n(ring.data(), MemorySize(size), uint8_t{0});
    free_.reserve(size);
    for (uint32_t i = size; i > 0; i--) free_.push_back(static_cast<uint16_t>(i - 1));
  }

  uint32_t size() const { return size_; }
  int kick_fd() const { return kick_.get(); }
  int call_fd() const { return call_.get(); }
  uint16_t used_index() const { return LoadAcquire<uint16_t>(used_ + kSplitIndex); }
  size_t in_flight() const { return in_flight_; }
  const absl::Status& status() const { return status_; }

  VringAddress address(uint32_t index) const {
    const auto user = [this](const uint8_t* part) { return memory_.user_address + OffsetOf(part); };
    return {.index = index,
            .flags = 0,
            .descriptor = user(descriptors_),
            .used = user(used_),
            .available = user(available_),
            .log = 0};
  }

  absl::StatusOr<uint16_t> Add(absl::Span<const Buffer> chain);
  void Kick();
  absl::StatusOr<std::optional<Used>> Next();
  absl::StatusOr<Used> Wait(absl::Duration timeout);

 private:
  // A copy of a descriptor that the device can't write.
  struct Entry {
    // The next descriptor of the same chain.
    uint16_t next = 0;
    // In the head of a chain that the device has: its descriptors, else 0, and its writable bytes.
    uint16_t count = 0;
    uint64_t writable = 0;
  };

  size_t OffsetOf(const uint8_t* at) const {
    return static_cast<size_t>(at - memory_.bytes.data());
  }
  uint32_t Slot(uint16_t index) const { return index & (size_ - 1); }
  absl::Status CheckChain(absl::Span<const Buffer> chain) const;
  absl::Status Break(absl::string_view why) {
    status_ = CheckError(EBADMSG, absl::StrCat("the device broke the ring: ", why));
    return status_;
  }

  const Memory memory_;
  const uint32_t size_;
  uint8_t* const descriptors_;
  uint8_t* const available_;
  uint8_t* const used_;
  UniqueFd kick_;
  UniqueFd call_;
  wire_internal::EventSignaler signaler_;
  std::vector<Entry> entries_;
  // The free descriptors; the last one is the next.
  std::vector<uint16_t> free_;
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  size_t in_flight_ = 0;
  absl::Status status_;
};

absl::Status DriverRing::Impl::CheckChain(absl::Span<const Buffer> chain) const {
  if (chain.empty()) return CheckError(EINVAL, "a chain has at least one buffer");
  bool is_writable = false;
  for (const Buffer& buffer : chain) {
    if (is_writable && !buffer.is_writable) {
      return CheckError(EINVAL, "a readable buffer is behind a writable one");
    }
    is_writable = buffer.is_writable;
    if (!Contains(memory_.bytes, buffer.bytes) ||
        buffer.bytes.size() > std::numeric_limits<uint32_t>::max()) {
      return CheckError(EINVAL, absl::StrCat("a buffer of ", buffer.bytes.size(),
                                             " bytes isn't in the ring's memory, or too large"));
    }
  }
  if (chain.size() > free_.size()) {
    return CheckError(ENOSPC, absl::StrCat("a chain needs ", chain.size(), " descriptors, ",
                                           free_.size(), " of ", size_, " are free"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint16_t> DriverRing::Impl::Add(absl::Span<const Buffer> chain) {
  GMEM_RETURN_IF_ERROR(status_);
  GMEM_RETURN_IF_ERROR(CheckChain(chain));
  const uint16_t head = free_.back();
  uint64_t writable = 0;
  for (size_t i = 0; i < chain.size(); i++) {
    const uint16_t at = free_.back();
    free_.pop_back();
    const bool is_last = i + 1 == chain.size();
    entries_[at].next = is_last ? uint16_t{0} : free_.back();
    if (chain[i].is_writable) writable += chain[i].bytes.size();
    *reinterpret_cast<SplitDescriptor*>(descriptors_ + sizeof(SplitDescriptor) * at) = {
        .address = memory_.guest_address + OffsetOf(chain[i].bytes.data()),
        .length = static_cast<uint32_t>(chain[i].bytes.size()),
        .flags = static_cast<uint16_t>((chain[i].is_writable ? kDescriptorWrite : 0) |
                                       (is_last ? 0 : kDescriptorNext)),
        .next = entries_[at].next};
  }
  entries_[head].count = static_cast<uint16_t>(chain.size());
  entries_[head].writable = writable;
  in_flight_++;
  StoreRelease(available_ + kSplitEntries + 2 * size_t{Slot(next_available_)}, head);
  next_available_++;
  StoreRelease(available_ + kSplitIndex, next_available_);
  return head;
}

void DriverRing::Impl::Kick() {
  // The device writes its flags and then reads the available index.
  virtqueue_internal::FullFence();
  if ((LoadAcquire<uint16_t>(used_ + kSplitFlags) & kSplitNoNotify) != 0) return;
  // The device has the same eventfd, but can't make this wait, and has only itself to harm.
  signaler_.Signal(kick_.get()).IgnoreError();
}

absl::StatusOr<std::optional<DriverRing::Used>> DriverRing::Impl::Next() {
  GMEM_RETURN_IF_ERROR(status_);
  const uint16_t index = used_index();
  if (index == next_used_) return std::nullopt;
  if (static_cast<uint16_t>(index - next_used_) > in_flight_) {
    return Break(absl::StrCat("used index ", index, " behind ", next_used_, ", with ", in_flight_,
                              " chains in flight"));
  }
  const auto used = LoadOnce<SplitUsedEntry>(used_ + kSplitEntries +
                                             sizeof(SplitUsedEntry) * size_t{Slot(next_used_)});
  if (used.id >= size_ || entries_[used.id].count == 0) {
    return Break(absl::StrCat("it returned chain ", used.id, ", which it doesn't have"));
  }
  next_used_++;
  in_flight_--;
  const auto head = static_cast<uint16_t>(used.id);
  Entry& chain = entries_[head];
  uint16_t at = head;
  for (; chain.count > 0; chain.count--) {
    free_.push_back(at);
    at = entries_[at].next;
  }
  return Used{.head = head,
              .written = static_cast<uint32_t>(std::min<uint64_t>(used.written, chain.writable))};
}

absl::StatusOr<DriverRing::Used> DriverRing::Impl::Wait(absl::Duration timeout) {
  const absl::Duration end = internal::Uptime() + timeout;
  while (true) {
    GMEM_ASSIGN_OR_RETURN(const std::optional<Used> used, Next());
    if (used.has_value()) return *used;
    const absl::Duration left = end - internal::Uptime();
    if (left <= absl::ZeroDuration()) {
      return CheckError(
          ETIMEDOUT, absl::StrCat("the device used no chain for ", absl::FormatDuration(timeout)));
    }
    pollfd call = {.fd = call_.get(), .events = POLLIN, .revents = 0};
    const absl::Duration pause = std::min(left, absl::Hours(1));
    poll(&call, 1, static_cast<int>(absl::ToInt64Milliseconds(pause)) + 1);
    // RWF_NOWAIT, because the device has the same open file and may clear O_NONBLOCK.
    uint64_t calls = 0;
    const iovec iov = {.iov_base = &calls, .iov_len = sizeof(calls)};
    if (preadv2(call_.get(), &iov, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN) {
      return ErrnoError(errno, "can't read a virtqueue's call");
    }
  }
}

size_t DriverRing::MemorySize(uint32_t size) {
  // An event index follows the entries here, too.
  return UsedAt(size) + kSplitEntries + sizeof(SplitUsedEntry) * size + 2;
}

absl::StatusOr<DriverRing> DriverRing::Create(const Memory& memory, absl::Span<uint8_t> ring,
                                              uint32_t size) {
  if (!std::has_single_bit(size) || size > kMaxQueueSize) {
    return CheckError(EINVAL, absl::StrCat("a ring of ", size, " entries: powers of two up to ",
                                           kMaxQueueSize, " are possible"));
  }
  const auto at = reinterpret_cast<uintptr_t>(ring.data());
  const uintptr_t offset = at - reinterpret_cast<uintptr_t>(memory.bytes.data());
  if (!Contains(memory.bytes, ring) || ring.size() < MemorySize(size) || at % kAlign != 0 ||
      (memory.user_address + offset) % kAlign != 0) {
    return CheckError(EINVAL,
                      absl::StrCat("a ring's ", ring.size(), " bytes aren't ", MemorySize(size),
                                   " bytes of its memory, aligned to ", kAlign));
  }
  auto impl = std::make_unique<Impl>(memory, ring, size);
  if (impl->kick_fd() < 0 || impl->call_fd() < 0) return ErrnoError(errno, "can't make an eventfd");
  return DriverRing(std::move(impl));
}

DriverRing::DriverRing(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DriverRing::DriverRing(DriverRing&& other) noexcept = default;
DriverRing& DriverRing::operator=(DriverRing&& other) noexcept = default;
DriverRing::~DriverRing() = default;

uint32_t DriverRing::size() const { return impl_->size(); }
VringAddress DriverRing::address(uint32_t index) const { return impl_->address(index); }
int DriverRing::kick_fd() const { return impl_->kick_fd(); }
int DriverRing::call_fd() const { return impl_->call_fd(); }
uint16_t DriverRing::used_index() const { return impl_->used_index(); }
size_t DriverRing::in_flight() const { return impl_->in_flight(); }
const absl::Status& DriverRing::status() const { return impl_->status(); }
absl::StatusOr<uint16_t> DriverRing::Add(absl::Span<const Buffer> chain) {
  return impl_->Add(chain);
}
void DriverRing::Kick() { impl_->Kick(); }
absl::StatusOr<std::optional<DriverRing::Used>> DriverRing::Next() { return impl_->Next(); }
absl::StatusOr<DriverRing::Used> DriverRing::Wait(absl::Duration timeout) {
  return impl_->Wait(timeout);
}

}  // namespace gmem::vhost
