// SPDX-License-Identifier: Apache-2.0
#include "gmem/vhost/virtqueue.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/ring.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using virtqueue_internal::Ring;

static_assert(std::endian::native == std::endian::little, "virtqueues are little-endian");

constexpr uint64_t kDescriptorAlign = 16;
// Of a packed ring's event suppression, too.
constexpr uint64_t kUsedAlign = 4;
constexpr uint64_t kAvailableAlign = 2;

absl::Status CheckPart(absl::string_view name, GuestSpan part, uint64_t size, uint64_t align) {
  if (part.size() >= size && reinterpret_cast<uintptr_t>(part.data()) % align == 0) {
    return absl::OkStatus();
  }
  return CheckError(EINVAL, absl::StrCat("a ring's ", name, " part of ", part.size(),
                                         " bytes isn't ", size, " bytes, aligned to ", align));
}

absl::Status CheckRing(const Virtqueue::Options& options, const Virtqueue::Memory& ring) {
  const Virtqueue::Sizes sizes = Virtqueue::SizesOf(options);
  GMEM_RETURN_IF_ERROR(
      CheckPart("descriptor", ring.descriptors, sizes.descriptors, kDescriptorAlign));
  GMEM_RETURN_IF_ERROR(CheckPart("used", ring.used, sizes.used, kUsedAlign));
  return CheckPart("available", ring.available, sizes.available,
                   options.is_packed ? kUsedAlign : kAvailableAlign);
}

}  // namespace

Virtqueue::Sizes Virtqueue::SizesOf(const Options& options) {
  constexpr uint64_t kDescriptor = 16;
  constexpr uint64_t kEventSuppression = 4;
  const uint64_t descriptors = kDescriptor * options.size;
  if (options.is_packed) {
    return {.descriptors = descriptors, .used = kEventSuppression, .available = kEventSuppression};
  }
  // flags and idx, the ring, and the event's index.
  const uint64_t event = options.has_event_idx ? 2 : 0;
  const uint64_t size = options.size;
  return {
      .descriptors = descriptors, .used = 4 + 8 * size + event, .available = 4 + 2 * size + event};
}

Virtqueue::Virtqueue(const GuestMemoryMap& memory, const Options& options)
    : memory_(&memory), options_(options) {}
Virtqueue::Virtqueue(Virtqueue&& other) noexcept = default;
Virtqueue& Virtqueue::operator=(Virtqueue&& other) noexcept = default;
Virtqueue::~Virtqueue() = default;

absl::StatusOr<Virtqueue> Virtqueue::Create(const GuestMemoryMap& memory, const Options& options,
                                            const Memory& ring, uint32_t base) {
  if (options.size == 0 || options.size > kMaxQueueSize ||
      (!options.is_packed && !std::has_single_bit(options.size))) {
    return CheckError(
        EINVAL, absl::StrCat("a virtqueue of ", options.size, " entries: 1 to ", kMaxQueueSize,
                             " are possible, and powers of two if it is split"));
  }
  GMEM_RETURN_IF_ERROR(CheckRing(options, ring));
  constexpr uint32_t kIndexMask = 0x7fff;
  if (options.is_packed &&
      ((base & kIndexMask) >= options.size || (base >> 16 & kIndexMask) >= options.size)) {
    return CheckError(EINVAL, absl::StrCat("a virtqueue of ", options.size,
                                           " entries can't begin at 0x", absl::Hex(base)));
  }
  Virtqueue queue(memory, options);
  queue.ring_ = options.is_packed ? virtqueue_internal::MakePackedRing(options, ring, base)
                                  : virtqueue_internal::MakeSplitRing(options, ring, base);
  queue.waiting_.reserve(options.size);
  return queue;
}

absl::Status Virtqueue::TrackInflight(GuestSpan region) { return ring_->TrackInflight(region); }

absl::StatusOr<bool> Virtqueue::Pop(Chain& chain) {
  if (!status_.ok()) return status_;
  miss_.reset();
  if (!is_reachable_) return false;
  virtqueue_internal::ChainBuilder builder(*memory_, chain);
  switch (ring_->Pop(builder)) {
    case Ring::Popped::kNone:
      return false;
    case Ring::Popped::kChain:
      // As where SET_VRING_BASE was made up.
      if (in_flight_ == options_.size) {
        status_ = CheckError(EBADMSG, absl::StrCat("virtqueue ", options_.index, " of ",
                                                   options_.size, " entries has more in flight"));
        return status_;
      }
      in_flight_++;
      return true;
    case Ring::Popped::kMiss:
      miss_ = Miss{.address = builder.miss_address(), .access = builder.miss_access()};
      return false;
    case Ring::Popped::kBroken:
      break;
  }
  status_ = CheckError(EBADMSG,
                       absl::StrCat("virtqueue ", options_.index, ": ", builder.error().message()));
  return status_;
}

void Virtqueue::Push(const Chain& chain, uint64_t written) {
  if (in_flight_ == 0) return;
  written = std::min(written, chain.writable_size());
  if (log_ != nullptr) {
    uint64_t left = written;
    for (const GuestSpan span : chain.writable()) {
      const uint64_t piece = std::min<uint64_t>(left, span.size());
      const std::optional<uint64_t> address = memory_->ToGuest(span.data());
      if (address) log_->Mark(*address, piece);
      left -= piece;
    }
  }
  const Completion completion = {.token = chain.token(),
                                 .written = static_cast<uint32_t>(std::min<uint64_t>(
                                     written, std::numeric_limits<uint32_t>::max()))};
  if (is_reachable_) {
    Complete(completion);
  } else {
    waiting_.push_back(completion);
  }
  in_flight_--;
}

void Virtqueue::Complete(const Completion& completion) {
  const virtqueue_internal::UsedWrite write = ring_->Push(completion.token, completion.written);
  if (log_ == nullptr || !log_ring_) return;
  log_->Mark(log_ring_address_ + write.offset, write.size);
  // The index.
  if (!options_.is_packed) log_->Mark(log_ring_address_, 4);
}

void Virtqueue::Notify() {
  if (is_reachable_ && ring_->ShouldNotify() && call_) call_();
}

void Virtqueue::DisableKicks() {
  if (is_reachable_) ring_->DisableKicks();
}

bool Virtqueue::EnableKicks() { return is_reachable_ && status_.ok() && ring_->EnableKicks(); }

uint32_t Virtqueue::base() const { return ring_->base(); }

absl::Status Virtqueue::Move(const std::optional<Memory>& ring) {
  is_reachable_ = false;
  // What was missing may be there now.
  miss_.reset();
  if (!ring) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(CheckRing(options_, *ring));
  ring_->Move(*ring);
  is_reachable_ = true;
  for (const Completion& completion : waiting_) Complete(completion);
  waiting_.clear();
  return absl::OkStatus();
}

}  // namespace gmem::vhost
