// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/virtqueue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/vhost/chain.h"
#include "gmem/vhost/dirty_marks.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"
#include "vhost/queue/chain_builder.h"
#include "vhost/queue/counters.h"
#include "vhost/queue/descriptor.h"
#include "vhost/queue/in_flight.h"
#include "vhost/queue/probes.h"
#include "vhost/queue/ring.h"

namespace gmem::vhost {
namespace {

using internal::CheckError;
using virtqueue_internal::ChainBuilder;
using virtqueue_internal::InFlight;
using virtqueue_internal::Ring;
using virtqueue_internal::RingToken;

static_assert(std::endian::native == std::endian::little, "virtqueues are little-endian");

constexpr uint64_t kDescriptorAlign = 16;
// Also the alignment of both event suppression structures of a packed ring.
constexpr uint64_t kUsedAlign = 4;
constexpr uint64_t kAvailableAlign = 2;

absl::Status CheckPart(absl::string_view name, GuestSpan part, uint64_t size, uint64_t align) {
  if (part.size() >= size && reinterpret_cast<uintptr_t>(part.data()) % align == 0) {
    return absl::OkStatus();
  }
  return CheckError(EINVAL, absl::StrCat("a ring's ", name, " part of ", part.size(),
                                         " bytes isn't ", size, " bytes, aligned to ", align));
}

absl::Status CheckOptions(const Virtqueue::Options& options, uint32_t base) {
  if (options.size == 0 || options.size > kMaxQueueSize ||
      (!options.is_packed && !std::has_single_bit(options.size))) {
    return CheckError(
        EINVAL, absl::StrCat("a virtqueue of ", options.size, " entries: 1 to ", kMaxQueueSize,
                             " are possible, and powers of two if it is split"));
  }
  constexpr uint32_t kIndexMask = 0x7fff;
  if (options.is_packed &&
      ((base & kIndexMask) >= options.size || (base >> 16 & kIndexMask) >= options.size)) {
    return CheckError(EINVAL, absl::StrCat("a virtqueue of ", options.size,
                                           " entries can't begin at 0x", absl::Hex(base)));
  }
  return absl::OkStatus();
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
  // The flags and the index, the entries, and the event index.
  const uint64_t event = options.has_event_idx ? 2 : 0;
  const uint64_t size = options.size;
  return {
      .descriptors = descriptors, .used = 4 + 8 * size + event, .available = 4 + 2 * size + event};
}

class __attribute__((visibility("hidden"))) Virtqueue::Impl {
 public:
  Impl(const GuestMemoryMap& memory, const Options& options, const Memory& ring, uint32_t base)
      : memory_(memory),
        options_(options),
        ring_(options.is_packed ? virtqueue_internal::MakePackedRing(options, ring, base)
                                : virtqueue_internal::MakeSplitRing(options, ring, base)),
        in_flight_(options.size) {
    waiting_.reserve(options.size);
    unmarked_.reserve(options.size);
  }

  const Options& options() const { return options_; }
  Ring& ring() { return *ring_; }
  const Ring& ring() const { return *ring_; }
  const InFlight& in_flight() const { return in_flight_; }
  const absl::Status& status() const { return status_; }
  const std::optional<Miss>& miss() const { return miss_; }
  void ForgetMiss() { miss_.reset(); }
  bool is_reachable() const { return is_reachable_; }

  Popped Pop(Chain& chain);
  bool Push(const Chain& chain, uint64_t written) { return PushAll({&chain, 1}, written); }
  bool PushAll(absl::Span<const Chain> chains, uint64_t written);
  bool Unpop(const Chain& chain);
  size_t TakeBack();
  bool IsInRemovedMemory(const Chain& chain) const {
    return in_flight_.Find(chain.token()) != nullptr && IsRemoved(in_flight_.holds(chain.token()));
  }
  bool HasRemovedMemory() const {
    return in_flight_.AnyOf([this](const InFlight::Holds& holds) { return IsRemoved(holds); });
  }
  void GiveUpSince(uint64_t pop) { in_flight_.RemoveSince(pop); }
  void BeginStop() { is_stopping_ = true; }
  void Notify();
  absl::Status Move(const std::optional<Memory>& ring);

  void set_pause(const std::atomic<bool>* pause) { pause_ = pause; }
  void set_counters(Counters* counters) { counters_ = counters; }
  void set_attention(absl::AnyInvocable<void()> attention) { attention_ = std::move(attention); }
  void set_call(absl::AnyInvocable<void()> call) { call_ = std::move(call); }
  void set_log(const DirtyMarks* log, bool log_ring, uint64_t ring_address) {
    log_ = log;
    log_ring_ = log_ring;
    log_ring_address_ = ring_address;
  }
  void MarkRing() const {
    if (log_ == nullptr || !log_ring_) return;
    const Sizes sizes = SizesOf(options_);
    log_->Mark(log_ring_address_, options_.is_packed ? sizes.descriptors : sizes.used);
  }

 private:
  // The arguments of a push.
  struct Completion {
    RingToken token;
    uint32_t written = 0;
  };

  Popped PopNext(Chain& chain);
  // A chain is no longer in flight.
  void NoteEnd() {
    if ((in_flight_.size() == 0 || memory_.nr_retired() > 0) && attention_) attention_();
  }
  // Was one of the regions removed?
  bool IsRemoved(const InFlight::Holds& holds) const;
  // May the chain be put back?
  bool CanUnpop(const RingToken& chain) const { return !is_stopping_ || !chain.is_old; }
  // Writes a used entry; Publish() must follow.
  void Complete(const Completion& completion);
  void Publish();
  void PushOne(const Chain& chain, const RingToken& token, uint64_t written);
  void LogBuffers(const Chain& chain, uint64_t written) const;
  Popped Break(absl::string_view why);
  // Breaks the virtqueue because of a chain that the ring has just brought.
  Popped Refuse(const RingToken& token, absl::string_view why);

  const GuestMemoryMap& memory_;
  const Options options_;
  const std::unique_ptr<Ring> ring_;
  // Scratch memory for indirect tables.
  std::vector<virtqueue_internal::SplitDescriptor> table_;
  // Scratch memory for the regions of a chain.
  InFlight::Holds holds_;
  bool is_reachable_ = true;
  bool is_stopping_ = false;
  InFlight in_flight_;
  absl::Status status_;
  std::optional<Miss> miss_;
  // Pushes that wait until the ring can be reached; there is room for all.
  std::vector<Completion> waiting_;
  // Used entries that the dirty log doesn't have yet.
  std::vector<virtqueue_internal::UsedWrite> unmarked_;
  absl::AnyInvocable<void()> call_;
  absl::AnyInvocable<void()> attention_;
  const std::atomic<bool>* pause_ = nullptr;
  Counters* counters_ = nullptr;
  const DirtyMarks* log_ = nullptr;
  bool log_ring_ = false;
  uint64_t log_ring_address_ = 0;
};

Popped Virtqueue::Impl::Break(absl::string_view why) {
  status_ = CheckError(EBADMSG, absl::StrCat("virtqueue ", options_.index, why));
  return Popped::kBroken;
}

Popped Virtqueue::Impl::Refuse(const RingToken& token, absl::string_view why) {
  // The chain must not be lost when the virtqueue starts again.
  ring_->Unpop(token);
  return Break(why);
}

Popped Virtqueue::Impl::Pop(Chain& chain) {
  if (!status_.ok()) return Popped::kBroken;
  if (pause_ != nullptr && pause_->load(std::memory_order_relaxed)) {
    if (attention_) attention_();
    return Popped::kNothing;
  }
  const Popped popped = PopNext(chain);
  if (popped == Popped::kChain) {
    GMEM_PROBE2(pop, options_.index, chain.readable().size() + chain.writable().size());
  }
  if ((popped == Popped::kMiss || popped == Popped::kBroken) && attention_) attention_();
  return popped;
}

Popped Virtqueue::Impl::PopNext(Chain& chain) {
  miss_.reset();
  if (!is_reachable_) return Popped::kNothing;
  ChainBuilder builder(memory_, options_.size, table_, chain);
  RingToken token;
  const Popped popped = ring_->Pop(builder, token);
  switch (popped) {
    case Popped::kChain:
      // The rings refuse that before, by their descriptors. The records must never overrun.
      if (in_flight_.is_full()) {
        return Refuse(token, absl::StrCat(" of ", options_.size, " entries has more in flight"));
      }
      if (builder.nr_spans() > kMaxSpansInFlight - in_flight_.nr_spans()) {
        return Refuse(token, absl::StrCat(" has chains of more than ", kMaxSpansInFlight,
                                          " pieces of memory in flight"));
      }
      token.nr_spans = static_cast<uint32_t>(builder.nr_spans());
      memory_.HoldAll(builder.spans(), holds_);
      builder.Finish(in_flight_.Add(token, holds_));
      break;
    case Popped::kNothing:
      break;
    case Popped::kMiss:
      miss_ = builder.miss();
      break;
    case Popped::kBroken:
      return Break(absl::StrCat(": ", builder.error().message()));
  }
  return popped;
}

void Virtqueue::Impl::LogBuffers(const Chain& chain, uint64_t written) const {
  for (const GuestSpan span : chain.writable()) {
    if (written == 0) return;
    const uint64_t piece = std::min<uint64_t>(written, span.size());
    const std::optional<uint64_t> address = memory_.ToGuest(span.data());
    if (address) log_->Mark(*address, piece);
    written -= piece;
  }
}

void Virtqueue::Impl::PushOne(const Chain& chain, const RingToken& token, uint64_t written) {
  if (log_ != nullptr) LogBuffers(chain, written);
  const Completion completion = {.token = token,
                                 .written = static_cast<uint32_t>(std::min<uint64_t>(
                                     written, std::numeric_limits<uint32_t>::max()))};
  if (is_reachable_) {
    Complete(completion);
  } else {
    waiting_.push_back(completion);
  }
  in_flight_.Remove(chain.token());
  if (counters_ != nullptr) {
    counters_->chains.Add(1);
    counters_->bytes.Add(chain.readable_size() + written);
  }
  GMEM_PROBE2(push, options_.index, written);
}

bool Virtqueue::Impl::PushAll(absl::Span<const Chain> chains, uint64_t written) {
  for (const Chain& chain : chains) {
    if (in_flight_.Find(chain.token()) == nullptr) return false;
  }
  for (const Chain& chain : chains) {
    const RingToken* const token = in_flight_.Find(chain.token());
    // The list has the chain twice.
    if (token == nullptr) continue;
    const uint64_t piece = std::min(written, chain.writable_size());
    written -= piece;
    PushOne(chain, *token, piece);
  }
  if (is_reachable_) Publish();
  NoteEnd();
  return true;
}

bool Virtqueue::Impl::Unpop(const Chain& chain) {
  if (in_flight_.Find(chain.token()) == nullptr || !in_flight_.IsLast(chain.token())) return false;
  if (!CanUnpop(*in_flight_.last())) return false;
  ring_->Unpop(*in_flight_.last());
  in_flight_.RemoveLast();
  NoteEnd();
  return true;
}

size_t Virtqueue::Impl::TakeBack() {
  size_t count = 0;
  for (const RingToken* last = in_flight_.last(); last != nullptr && CanUnpop(*last);
       last = in_flight_.last()) {
    ring_->Unpop(*last);
    in_flight_.RemoveLast();
    count++;
  }
  // The event that the driver kicks at is one of the chains that were taken back. Move it, too.
  if (count > 0 && is_reachable_) ring_->EnableKicks();
  return count;
}

bool Virtqueue::Impl::IsRemoved(const InFlight::Holds& holds) const {
  return std::any_of(holds.begin(), holds.end(),
                     [this](const auto& hold) { return memory_.Hold(hold->data()) == nullptr; });
}

void Virtqueue::Impl::Complete(const Completion& completion) {
  const virtqueue_internal::UsedWrite write = ring_->Stage(completion.token, completion.written);
  if (log_ != nullptr && log_ring_) unmarked_.push_back(write);
}

void Virtqueue::Impl::Publish() {
  ring_->Publish();
  // A mark comes after its write: the front-end may copy the page as soon as it sees the mark.
  for (const virtqueue_internal::UsedWrite& write : unmarked_) {
    log_->Mark(log_ring_address_ + write.offset, write.size);
    // The used index.
    if (!options_.is_packed) log_->Mark(log_ring_address_, 4);
  }
  unmarked_.clear();
}

void Virtqueue::Impl::Notify() {
  if (is_reachable_ && ring_->ShouldNotify() && call_) call_();
}

absl::Status Virtqueue::Impl::Move(const std::optional<Memory>& ring) {
  is_reachable_ = false;
  ForgetMiss();
  if (!ring) return absl::OkStatus();
  GMEM_RETURN_IF_ERROR(CheckRing(options_, *ring));
  ring_->Move(*ring);
  is_reachable_ = true;
  for (const Completion& completion : waiting_) Complete(completion);
  if (!waiting_.empty()) Publish();
  waiting_.clear();
  return absl::OkStatus();
}

absl::StatusOr<Virtqueue> Virtqueue::Create(const GuestMemoryMap& memory, const Options& options,
                                            const Memory& ring, uint32_t base) {
  GMEM_RETURN_IF_ERROR(CheckOptions(options, base));
  GMEM_RETURN_IF_ERROR(CheckRing(options, ring));
  return Virtqueue(std::make_unique<Impl>(memory, options, ring, base));
}

Virtqueue::Virtqueue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Virtqueue::Virtqueue(Virtqueue&& other) noexcept = default;
Virtqueue& Virtqueue::operator=(Virtqueue&& other) noexcept = default;
Virtqueue::~Virtqueue() = default;

absl::Status Virtqueue::TrackInflight(GuestSpan region) {
  return impl_->ring().TrackInflight(region);
}

uint16_t Virtqueue::index() const { return impl_->options().index; }
uint32_t Virtqueue::size() const { return impl_->options().size; }
size_t Virtqueue::in_flight() const { return impl_->in_flight().size(); }
bool Virtqueue::IsInFlight(const Chain& chain) const {
  return impl_->in_flight().Find(chain.token()) != nullptr;
}
bool Virtqueue::IsInRemovedMemory(const Chain& chain) const {
  return impl_->IsInRemovedMemory(chain);
}
uint64_t Virtqueue::nr_popped() const { return impl_->in_flight().nr_popped(); }
uint64_t Virtqueue::last_pop() const { return impl_->in_flight().last_pop(); }
const absl::Status& Virtqueue::status() const { return impl_->status(); }
uint32_t Virtqueue::base() const { return impl_->ring().base(); }
const std::optional<Virtqueue::Miss>& Virtqueue::miss() const { return impl_->miss(); }
void Virtqueue::ForgetMiss() { impl_->ForgetMiss(); }
bool Virtqueue::is_reachable() const { return impl_->is_reachable(); }

Popped Virtqueue::Pop(Chain& chain) { return impl_->Pop(chain); }
bool Virtqueue::Push(const Chain& chain, uint64_t written) { return impl_->Push(chain, written); }
bool Virtqueue::PushAll(absl::Span<const Chain> chains, uint64_t written) {
  return impl_->PushAll(chains, written);
}
bool Virtqueue::Unpop(const Chain& chain) { return impl_->Unpop(chain); }
size_t Virtqueue::TakeBack() { return impl_->TakeBack(); }
bool Virtqueue::HasRemovedMemory() const { return impl_->HasRemovedMemory(); }
void Virtqueue::GiveUpSince(uint64_t pop) { impl_->GiveUpSince(pop); }
void Virtqueue::BeginStop() { impl_->BeginStop(); }
void Virtqueue::Notify() { impl_->Notify(); }

void Virtqueue::DisableKicks() {
  if (impl_->is_reachable()) impl_->ring().DisableKicks();
}

bool Virtqueue::EnableKicks() {
  return impl_->is_reachable() && impl_->status().ok() && impl_->ring().EnableKicks();
}

bool Virtqueue::AwaitMore() {
  return impl_->is_reachable() && impl_->status().ok() && impl_->ring().AwaitMore();
}

absl::Status Virtqueue::Move(const std::optional<Memory>& ring) { return impl_->Move(ring); }

void Virtqueue::set_pause(const std::atomic<bool>* pause) { impl_->set_pause(pause); }
void Virtqueue::set_counters(Counters* counters) { impl_->set_counters(counters); }
void Virtqueue::set_call(absl::AnyInvocable<void()> call) { impl_->set_call(std::move(call)); }

void Virtqueue::set_attention(absl::AnyInvocable<void()> attention) {
  impl_->set_attention(std::move(attention));
}

void Virtqueue::set_log(const DirtyMarks* log, bool log_ring, uint64_t ring_address) {
  impl_->set_log(log, log_ring, ring_address);
}

void Virtqueue::MarkRing() { impl_->MarkRing(); }

}  // namespace gmem::vhost
