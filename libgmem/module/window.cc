// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/window.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/host_map.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "module/vm_error.h"

namespace gmem {
namespace {

// KVM uses a huge page only if guest and host address are equal modulo its size.
constexpr ByteSize kHugePageSize = MiB(2);

absl::Status CheckRange(GuestRange range) {
  std::string wrong = internal::FindRangeError(
      {.start_name = "guest_addr", .page_size = HostPageSize(), .page_owner = "host"},
      range.start.value(), range.size);
  if (wrong.empty() && range.IsValid()) return absl::OkStatus();
  if (wrong.empty()) wrong = absl::StrCat(ToString(range), " ends beyond 2^64");
  return internal::CheckError(range.IsValid() ? EINVAL : EOVERFLOW,
                              absl::StrCat("can't make a window: ", wrong));
}

// How often to look at the bindings again if others change them at the same time.
constexpr int kMaxTries = 100;

}  // namespace

// Changes of ranges that overlap take turns. A vCPU's thread counts changes without a lock.
class [[gnu::visibility("hidden")]] Window::Changes {
 public:
  uint64_t nr_begun() const { return nr_begun_; }
  uint64_t nr_over() const { return nr_over_; }

  // Waits until as many changes are over.
  void WaitUntilOver(uint64_t nr_changes) const {
    for (uint64_t over = nr_over_; over < nr_changes; over = nr_over_) nr_over_.wait(over);
  }

 private:
  friend class Window::Change;

  std::mutex mutex_;
  std::condition_variable one_is_over_;
  // The changes under way and, behind those that they wait for, the waiting ones: a list that needs
  // no memory of its own. Guarded by mutex_.
  Change* first_ = nullptr;
  std::atomic<uint64_t> nr_begun_ = 0;
  std::atomic<uint64_t> nr_over_ = 0;
};

// A change of @range is under way while this object lives.
class [[gnu::visibility("hidden")]] Window::Change {
 public:
  Change(Changes * changes, GuestRange range) : changes_(changes), range_(range) {
    std::unique_lock lock(changes_->mutex_);
    // In the order of arrival: else a change of a wide range could wait for ever.
    Change** link = &changes_->first_;
    while (*link != nullptr) link = &(*link)->next_;
    *link = this;
    changes_->one_is_over_.wait(lock, [this] { return !OverlapsEarlier(); });
    ++changes_->nr_begun_;
  }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
  ~Change() {
    {
      const std::lock_guard lock(changes_->mutex_);
      Change** link = &changes_->first_;
      while (*link != this) link = &(*link)->next_;
      *link = next_;
      ++changes_->nr_over_;
    }
    changes_->one_is_over_.notify_all();
    changes_->nr_over_.notify_all();
  }

 private:
  bool OverlapsEarlier() const {
    for (const Change* other = changes_->first_; other != this; other = other->next_) {
      if (other->range_.Overlaps(range_)) return true;
    }
    return false;
  }

  Changes* const changes_;
  const GuestRange range_;
  Change* next_ = nullptr;
};

Window::Window(Vm vm, Mapping memory, size_t offset, GuestRange range, MemoryAccess access,
               WindowKind kind)
    : vm_(std::move(vm)),
      memory_(std::move(memory)),
      offset_(offset),
      range_(range),
      access_(access),
      kind_(kind),
      changes_(std::make_unique<Changes>()) {}

Window::Window(Window&&) noexcept = default;
Window& Window::operator=(Window&&) noexcept = default;
Window::~Window() = default;

absl::StatusOr<Window> Window::Create(const Vm& vm, GuestRange range, const Options& options) {
  GMEM_RETURN_IF_ERROR(CheckRange(range));
  GMEM_ASSIGN_OR_RETURN(Vm own_vm, vm.Duplicate());

  const uint64_t before = range.start.value() & (kHugePageSize.value() - 1);
  const std::optional<ByteSize> total = CheckedAdd(range.size, ByteSize(before));
  if (!total) {
    return internal::CheckError(EOVERFLOW,
                                absl::StrCat("a window of ", ToString(range.size),
                                             " doesn't fit in this process's address space"));
  }
  GMEM_ASSIGN_OR_RETURN(Mapping memory, Mapping::Reserve(*total, kHugePageSize));

  const WindowKind kind = own_vm.Windows();
  Window window(std::move(own_vm), std::move(memory), before, range, options.access, kind);
  GMEM_RETURN_IF_ERROR(kind == WindowKind::kLive ? window.Show(range, options.access)
                                                 : window.ShowBindings(range));
  return window;
}

absl::Span<uint8_t> Window::HostMemory(GuestRange range) const {
  if (!range_.Contains(range)) return {};
  return {data() + (range.start - range_.start).value(), range.size.value()};
}

std::optional<GuestAddress> Window::ToGuest(const void* address) const {
  // Only std::less orders pointers to different objects.
  const auto* const byte = static_cast<const uint8_t*>(address);
  if (std::less<>()(byte, data()) || !std::less<>()(byte, data() + size())) return std::nullopt;
  return range_.start + ByteSize(static_cast<uint64_t>(byte - data()));
}

absl::Status Window::CheckInside(GuestRange range) const {
  // The VM has better words for a range that wraps.
  if (!range.IsValid() || range_.Contains(range)) return absl::OkStatus();
  return internal::CheckError(
      EINVAL, absl::StrCat(ToString(range), " doesn't lie in the window ", ToString(range_)));
}

absl::Status Window::Map(int guest_memory_fd, const MapOptions& options) const {
  const GuestRange range = {options.guest_address, options.size};
  GMEM_RETURN_IF_ERROR(CheckInside(range));
  if (kind_ == WindowKind::kLive) return vm_.Map(guest_memory_fd, options);

  const Change change(changes_.get(), range);
  GMEM_RETURN_IF_ERROR(vm_.Map(guest_memory_fd, options));
  absl::Status status = ShowBindings(range);
  if (status.ok()) return status;
  // The window doesn't show the binding, so there is nothing to hide. At the limit of mappings,
  // hiding would fail.
  vm_.Unmap(range).status().IgnoreError();
  ShowBindings(range).IgnoreError();
  return status;
}

absl::StatusOr<uint64_t> Window::Unmap(GuestRange range) const {
  GMEM_RETURN_IF_ERROR(CheckInside(range));
  if (kind_ == WindowKind::kLive) return vm_.Unmap(range);

  const Change change(changes_.get(), range);
  absl::StatusOr<uint64_t> nr_pages = 0;
  GMEM_RETURN_IF_ERROR(Remove(range, [&] {
    nr_pages = vm_.Unmap(range);
    return nr_pages.status();
  }));
  return nr_pages;
}

absl::Status Window::UnmapExact(int guest_memory_fd, const MapOptions& options) const {
  const GuestRange range = {options.guest_address, options.size};
  GMEM_RETURN_IF_ERROR(CheckInside(range));
  if (kind_ == WindowKind::kLive) return vm_.UnmapExact(guest_memory_fd, options);

  const Change change(changes_.get(), range);
  return Remove(range, [&] { return vm_.UnmapExact(guest_memory_fd, options); });
}

absl::Status Window::Refresh(GuestRange range) const {
  GMEM_RETURN_IF_ERROR(CheckRange(range));
  GMEM_RETURN_IF_ERROR(CheckInside(range));
  if (kind_ == WindowKind::kLive) return absl::OkStatus();

  const Change change(changes_.get(), range);
  return ShowBindings(range);
}

uint64_t Window::NrChanges() const { return changes_->nr_over(); }

bool Window::HasChangedSince(uint64_t nr_changes) const {
  if (changes_->nr_begun() == nr_changes) return false;
  // The end of any change is worth another try. If the one that matters is still under way, the
  // next try fails, too, and waits for the next end.
  changes_->WaitUntilOver(nr_changes + 1);
  return true;
}

// Hides @range, calls @unbind, and shows what is bound then. KVM with an interrupt controller in
// the kernel tries an access to unbound memory again and again, in a kernel thread, as long as the
// window still shows what was bound there; it gives up at once where the process has no access.
absl::Status Window::Remove(GuestRange range, absl::FunctionRef<absl::Status()> unbind) const {
  // The kernel refuses the range, and says why.
  if (!CheckRange(range).ok()) return unbind();

  absl::Status status = Hide(range);
  if (status.ok()) status = unbind();
  const absl::Status shown = ShowBindings(range);
  // If only the second step fails, the range is unbound, and the window refuses every touch of it.
  if (status.ok() || shown.ok()) return status;
  return internal::CheckError(GetErrno(status).value_or(EIO),
                              absl::StrCat(status.message(), "; the window can't show ",
                                           ToString(range), ": call Refresh() later"));
}

absl::Status Window::Hide(GuestRange range) const {
  const absl::Span<uint8_t> memory = HostMemory(range);
  if (mprotect(memory.data(), memory.size(), PROT_NONE) == 0) return absl::OkStatus();
  return internal::ErrnoError(errno, absl::StrCat("can't hide ", ToString(range), " of a window"));
}

absl::Status Window::ShowBindings(GuestRange range) const {
  GuestRange rest = range;
  absl::Status status = ShowBindingsOnce(&rest);
  for (int i = 1; i < kMaxTries && GetErrno(status) == EAGAIN; ++i) {
    status = ShowBindingsOnce(&rest);
  }
  return status;
}

// Shows the bindings of *rest, and cuts off *rest the part that it has shown. Unavailable (EAGAIN)
// if a binding has changed since the VM reported it.
absl::Status Window::ShowBindingsOnce(GuestRange* rest) const {
  const GuestAddress end = rest->end();
  absl::Status status;
  const auto show_until = [&](GuestAddress next, MemoryAccess access) {
    status = Show({rest->start, next - rest->start}, access);
    if (status.ok()) *rest = {next, end - next};
    return status.ok();
  };
  const auto show_binding = [&](const Binding& binding) {
    // If bindings changed meanwhile, this one may begin before the end of the previous one.
    const GuestAddress start = std::max(binding.range.start, rest->start);
    const GuestAddress stop = std::max(start, std::min(binding.range.end(), end));
    const MemoryAccess access = binding.write ? access_ : MemoryAccess::kReadOnly;
    return show_until(start, access_) && show_until(stop, access);
  };
  GMEM_RETURN_IF_ERROR(vm_.ForEachBinding(*rest, show_binding));
  if (status.ok()) show_until(end, access_);
  return status;
}

// Maps @range onto the VM's memory. For a window of kind kPaged, @range lies within one binding or
// within a hole.
absl::Status Window::Show(GuestRange range, MemoryAccess access) const {
  if (range.size == ByteSize(0)) return absl::OkStatus();

  // A direct mmap() over the old mapping could leave a gap when it fails, and another thread could
  // take the gap.
  const absl::Status status =
      internal::MapOver(HostMemory(range), vm_.fd(), ByteOffset(range.start.value()), access);
  if (status.ok()) return absl::OkStatus();

  const int error = GetErrno(status).value_or(EIO);
  if (error == ENODEV) {
    return internal::ErrnoError(error,
                                "the VM's provider has no windows: see ProviderInfo::has_windows");
  }
  const std::string wrong =
      error == EINVAL || error == EACCES ? internal::FindGuestRangeMistake(vm_, range) : "";
  if (!wrong.empty()) {
    return internal::CheckError(error, absl::StrCat("can't map a window: ", wrong));
  }
  // A paged window fits the bindings; a live one always does.
  if ((error != EINVAL && error != EACCES) || kind_ == WindowKind::kLive) {
    return internal::ErrnoError(error, absl::StrCat("can't map a window of ", ToString(range)));
  }
  return internal::CheckError(EAGAIN, absl::StrCat("can't map a window of ", ToString(range),
                                                   ": its bindings change all the time"));
}

}  // namespace gmem
