// SPDX-License-Identifier: Apache-2.0
// Typed units: what a number counts is part of its type, so that a size can't pass
// for an address. All are 64 bits wide on every host, as in the kernel's interface.
#ifndef GMEM_TYPES_H_
#define GMEM_TYPES_H_

#include <compare>
#include <cstdint>
#include <iosfwd>
#include <limits>
#include <optional>
#include <string>

namespace gmem {

/// A number of one unit: comparable with its like, and with nothing else.
template <typename Unit>
class Quantity {
 public:
  constexpr Quantity() = default;
  constexpr explicit Quantity(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }

  friend constexpr bool operator==(Quantity a, Quantity b) = default;
  friend constexpr auto operator<=>(Quantity a, Quantity b) = default;

 private:
  uint64_t value_ = 0;
};

/// An address as the guest sees it, in bytes from 0.
using GuestAddress = Quantity<struct GuestAddressUnit>;
/// A place in a file or a region, in bytes from its start.
using ByteOffset = Quantity<struct ByteOffsetUnit>;
/// An amount of memory, in bytes.
using ByteSize = Quantity<struct ByteSizeUnit>;

constexpr ByteSize KiB(uint64_t n) { return ByteSize(n << 10); }
constexpr ByteSize MiB(uint64_t n) { return ByteSize(n << 20); }
constexpr ByteSize GiB(uint64_t n) { return ByteSize(n << 30); }

/// The sum, or nothing if it doesn't fit 64 bits. For values that come from elsewhere.
template <typename Unit>
constexpr std::optional<Quantity<Unit>> CheckedAdd(Quantity<Unit> a, ByteSize b) {
  if (b.value() > std::numeric_limits<uint64_t>::max() - a.value()) return std::nullopt;
  return Quantity<Unit>(a.value() + b.value());
}

/// The sum, for values that are known to be in range; wraps otherwise.
template <typename Unit>
constexpr Quantity<Unit> operator+(Quantity<Unit> a, ByteSize b) {
  return Quantity<Unit>(a.value() + b.value());
}

/// @p n times the size; wraps if that doesn't fit.
constexpr ByteSize operator*(uint64_t n, ByteSize size) { return ByteSize(n * size.value()); }

/// The distance from @p b to @p a, which is not below it; wraps otherwise.
template <typename Unit>
constexpr ByteSize operator-(Quantity<Unit> a, Quantity<Unit> b) {
  return ByteSize(a.value() - b.value());
}

/// Is it a multiple of @p alignment, which is a power of two?
template <typename Unit>
constexpr bool IsAligned(Quantity<Unit> a, ByteSize alignment) {
  return (a.value() & (alignment.value() - 1)) == 0;
}

/// @p size bytes from @p start on. An aggregate: `{.start = GuestAddress(0), .size = MiB(2)}`.
template <typename Start>
struct Range {
  Start start = {};
  ByteSize size = {};

  /// The first place behind the range. Wraps unless IsValid().
  constexpr Start end() const { return start + size; }

  /// Does the range end where 64 bits can say? The end itself may not be 2^64.
  constexpr bool IsValid() const { return CheckedAdd(start, size).has_value(); }

  /// Does all of @p other lie in this range? Never wraps; false if either isn't valid.
  constexpr bool Contains(const Range& other) const {
    return IsValid() && other.IsValid() && other.start >= start && other.end() <= end();
  }

  /// Have the two a byte in common? False if either isn't valid.
  constexpr bool Overlaps(const Range& other) const {
    return IsValid() && other.IsValid() && start < other.end() && other.start < end() &&
           size.value() > 0 && other.size.value() > 0;
  }

  friend constexpr bool operator==(const Range& a, const Range& b) = default;
};

using GuestRange = Range<GuestAddress>;
using ByteRange = Range<ByteOffset>;

/// For messages: "0x1000".
std::string ToString(GuestAddress address);
std::string ToString(ByteOffset offset);
/// For messages: "2 MiB", "12 KiB", "4097 bytes".
std::string ToString(ByteSize size);
/// For messages: "0x1000..0x2fff".
std::string ToString(const GuestRange& range);
std::string ToString(const ByteRange& range);

std::ostream& operator<<(std::ostream& os, GuestAddress address);
std::ostream& operator<<(std::ostream& os, ByteOffset offset);
std::ostream& operator<<(std::ostream& os, ByteSize size);
std::ostream& operator<<(std::ostream& os, const GuestRange& range);
std::ostream& operator<<(std::ostream& os, const ByteRange& range);

}  // namespace gmem

#endif  // GMEM_TYPES_H_
