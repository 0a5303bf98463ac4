// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/types.h"

#include <ostream>
#include <string>

#include "absl/strings/str_cat.h"

namespace gmem {
namespace {

std::string Hex(uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

template <typename Start>
std::string RangeToString(const Range<Start>& range) {
  if (range.size == ByteSize(0)) return absl::StrCat("nothing at ", Hex(range.start.value()));
  if (!CheckedAdd(range.start, range.size - ByteSize(1))) {
    return absl::StrCat(ToString(range.size), " at ", Hex(range.start.value()));
  }
  return absl::StrCat(Hex(range.start.value()), "..", Hex(range.end().value() - 1));
}

}  // namespace

std::string ToString(GuestAddress address) { return Hex(address.value()); }

std::string ToString(ByteOffset offset) { return Hex(offset.value()); }

std::string ToString(ByteSize size) {
  if (size.value() != 0) {
    if (IsAligned(size, GiB(1))) return absl::StrCat(size.value() >> 30, " GiB");
    if (IsAligned(size, MiB(1))) return absl::StrCat(size.value() >> 20, " MiB");
    if (IsAligned(size, KiB(1))) return absl::StrCat(size.value() >> 10, " KiB");
  }
  return absl::StrCat(size.value(), " bytes");
}

std::string ToString(const GuestRange& range) { return RangeToString(range); }
std::string ToString(const ByteRange& range) { return RangeToString(range); }

std::ostream& operator<<(std::ostream& os, GuestAddress address) { return os << ToString(address); }
std::ostream& operator<<(std::ostream& os, ByteOffset offset) { return os << ToString(offset); }
std::ostream& operator<<(std::ostream& os, ByteSize size) { return os << ToString(size); }
std::ostream& operator<<(std::ostream& os, const GuestRange& range) {
  return os << ToString(range);
}
std::ostream& operator<<(std::ostream& os, const ByteRange& range) { return os << ToString(range); }

}  // namespace gmem
