// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/gunyah/layout.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem::gunyah {
namespace {

using internal::CheckError;

// Labels number pages of this size, whatever the host's page size is.
constexpr int kLabelShift = 12;

Parcel ToParcel(const Binding& binding) {
  return {.range = binding.range,
          .mode = binding.mode,
          .read = binding.read,
          .write = binding.write,
          .execute = binding.execute,
          .label = static_cast<uint32_t>(binding.range.start.value() >> kLabelShift)};
}

absl::Status CheckPlace(const Parcel& parcel) {
  if (parcel.range.start < kMemoryStart) {
    return CheckError(EINVAL,
                      absl::StrCat(ToString(parcel), " begins below ", ToString(kMemoryStart),
                                   ": Gunyah keeps the addresses below ", ToString(kDevicesEnd),
                                   " for devices, and the page above for itself; bind it higher"));
  }
  if (!parcel.range.IsValid() || parcel.range.end() > kMemoryEnd) {
    return CheckError(EINVAL,
                      absl::StrCat(ToString(parcel), " reaches beyond ", ToString(kMemoryEnd),
                                   ": Gunyah gives a guest 36 bits of addresses; bind it lower"));
  }
  return absl::OkStatus();
}

absl::Status CheckImage(const Parcel& image) {
  if (image.mode != MapMode::kLend) {
    return CheckError(EINVAL, absl::StrCat("the image, ", ToString(image),
                                           ", isn't lent: Gunyah starts no guest from memory that "
                                           "others can access; bind it with MapMode::kLend"));
  }
  if (!image.read || !image.write || !image.execute) {
    return CheckError(
        EINVAL, absl::StrCat("the image, ", ToString(image),
                             ", lacks permissions: Gunyah wants read, write and execute for all "
                             "of it; set all three in MapOptions"));
  }
  if (!IsAligned(image.range.start, kImageAlignment)) {
    return CheckError(
        EINVAL, absl::StrCat("the image, ", ToString(image), ", doesn't begin at a multiple of ",
                             ToString(kImageAlignment),
                             ": Gunyah would move it up; bind the memory of the guest at such an "
                             "address"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ToString(const Parcel& parcel) {
  std::vector<std::string> access;
  if (parcel.read) access.emplace_back("read");
  if (parcel.write) access.emplace_back("write");
  if (parcel.execute) access.emplace_back("execute");
  return absl::StrCat(parcel.mode == MapMode::kShare ? "shared" : "lent", " memory ",
                      gmem::ToString(parcel.range), " (", absl::StrJoin(access, ", "), ")");
}

absl::StatusOr<Layout> PlanLayout(absl::Span<const Binding> bindings, GuestAddress entry) {
  std::vector<Parcel> parcels;
  for (const Binding& binding : bindings) {
    parcels.push_back(ToParcel(binding));
    GMEM_RETURN_IF_ERROR(CheckPlace(parcels.back()));
  }
  const auto image = std::find_if(parcels.begin(), parcels.end(), [entry](const Parcel& parcel) {
    return parcel.range.Contains({entry, ByteSize(1)});
  });
  if (image == parcels.end()) {
    return CheckError(EINVAL, absl::StrCat("no memory is bound at ", ToString(entry),
                                           ", the guest's first instruction: bind lent memory "
                                           "there, or correct the address"));
  }
  GMEM_RETURN_IF_ERROR(CheckImage(*image));

  Layout layout = {.image = *image, .others = {}};
  layout.image.label = 0;
  parcels.erase(image);
  layout.others = std::move(parcels);
  return layout;
}

}  // namespace gmem::gunyah
