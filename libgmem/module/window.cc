// SPDX-License-Identifier: Apache-2.0
#include "gmem/window.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

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

}  // namespace

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

  Window window(std::move(own_vm), std::move(memory), before, range, options.access);
  GMEM_RETURN_IF_ERROR(window.Refresh());
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

// Maps @range onto the VM's memory. @range lies within one binding or within a hole.
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
  if (error == EINVAL) {
    return internal::CheckError(
        error, absl::StrCat("guest range ", ToString(range), " is beyond the ",
                            vm_.GuestAddressBits(), "-bit guest address space of this VM"));
  }
  return internal::ErrnoError(
      error, absl::StrCat("can't map a window of ", ToString(range),
                          error == EACCES ? ": its binding has just changed" : ""));
}

absl::Status Window::Refresh(GuestRange range) const {
  GMEM_RETURN_IF_ERROR(CheckRange(range));
  if (!range_.Contains(range)) {
    return internal::CheckError(
        EINVAL, absl::StrCat(ToString(range), " doesn't lie in the window ", ToString(range_)));
  }

  GuestAddress done = range.start;
  absl::Status status;
  const auto show_binding = [this, &range, &done, &status](const Binding& binding) {
    // If bindings changed meanwhile, this one may begin before the end of the previous one.
    const GuestAddress start = std::max(binding.range.start, done);
    const GuestAddress end = std::min(binding.range.end(), range.end());
    const MemoryAccess access = binding.write ? access_ : MemoryAccess::kReadOnly;
    status = Show({done, start - done}, access_);
    if (status.ok()) status = Show({start, end - start}, access);
    done = end;
    return status.ok();
  };
  const absl::Status query_status = vm_.ForEachBinding(range, show_binding);
  if (status.ok() && query_status.ok()) return Show({done, range.end() - done}, access_);
  return status.ok() ? query_status : status;
}

}  // namespace gmem
