// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/vm_regions.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "gmem/types.h"
#include "gmem/vhost/memory_table.h"
#include "gmem/vm.h"

namespace gmem::vhost {
namespace {

bool Continues(const GuestRegion& a, const GuestRegion& b) {
  return a.guest_address + a.size == b.guest_address && a.offset + a.size == b.offset &&
         a.user_address + a.size.value() == b.user_address && a.fd == b.fd;
}

// The part of @region in [@start, @end); of size 0 if there is none.
GuestRegion Cut(GuestRegion region, GuestAddress start, GuestAddress end) {
  const GuestAddress first = std::max(start, region.guest_address);
  const GuestAddress last = std::min(end, region.guest_address + region.size);
  const ByteSize skipped = first - region.guest_address;
  region.guest_address = first;
  region.offset = region.offset + skipped;
  region.user_address += skipped.value();
  region.size = first < last ? last - first : ByteSize(0);
  return region;
}

void Append(std::vector<GuestRegion>& regions, const GuestRegion& region) {
  if (region.size == ByteSize(0)) return;
  if (!regions.empty() && Continues(regions.back(), region)) {
    regions.back().size = ByteSize(regions.back().size.value() + region.size.value());
  } else {
    regions.push_back(region);
  }
}

}  // namespace

std::vector<GuestRegion> SharedRegions(
    absl::Span<const Binding> bindings,
    absl::FunctionRef<std::optional<BindingHost>(const Binding&)> find, GuestRange except) {
  // An end that doesn't fit 64 bits: leave out everything from the start.
  if (!except.IsValid()) except.size = GuestAddress(UINT64_MAX) - except.start;
  std::vector<GuestRegion> regions;
  for (const Binding& binding : bindings) {
    if (binding.mode != MapMode::kShare || !binding.read || !binding.write) continue;
    const std::optional<BindingHost> host = find(binding);
    if (!host) continue;
    const GuestRegion region = {.guest_address = binding.range.start,
                                .size = binding.range.size,
                                .user_address = host->user_address,
                                .fd = host->fd,
                                .offset = binding.offset};
    if (!binding.range.Overlaps(except)) {
      Append(regions, region);
      continue;
    }
    Append(regions, Cut(region, binding.range.start, except.start));
    Append(regions, Cut(region, except.end(), binding.range.end()));
  }
  return regions;
}

}  // namespace gmem::vhost
