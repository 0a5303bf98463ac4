// SPDX-License-Identifier: MIT OR Apache-2.0
// Typed units: the type of a number includes its unit, so that code can't pass a size as an
// address. All are 64 bits wide on every host, as in the kernel's interface.
#ifndef GMEM_TYPES_H_
#define GMEM_TYPES_H_

#include <compare>
#include <cstdint>
#include <iosfwd>
#include <limits>
#include <optional>
#include <string>

namespace gmem {

/// A number of one unit. It compares only with numbers of the same unit.
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

/// The sum, or nothing if the sum doesn't fit in 64 bits. Use it for values from outside.
template <typename Unit>
constexpr std::optional<Quantity<Unit>> CheckedAdd(Quantity<Unit> a, ByteSize b) {
  if (b.value() > std::numeric_limits<uint64_t>::max() - a.value()) return std::nullopt;
  return Quantity<Unit>(a.value() + b.value());
}

/// The sum, for values that are known to be in range. It wraps if it doesn't fit in 64 bits.
template <typename Unit>
constexpr Quantity<Unit> operator+(Quantity<Unit> a, ByteSize b) {
  return Quantity<Unit>(a.value() + b.value());
}

/// @p n times the size. It wraps if it doesn't fit in 64 bits.
constexpr ByteSize operator*(uint64_t n, ByteSize size) { return ByteSize(n * size.value()); }

/// The distance from @p b to @p a. @p a must not be below @p b, else the result wraps.
template <typename Unit>
constexpr ByteSize operator-(Quantity<Unit> a, Quantity<Unit> b) {
  return ByteSize(a.value() - b.value());
}

/// Is @p a a multiple of @p alignment? @p alignment is a power of two.
template <typename Unit>
constexpr bool IsAligned(Quantity<Unit> a, ByteSize alignment) {
  return (a.value() & (alignment.value() - 1)) == 0;
}

/// @p size bytes from @p start on. An aggregate: `{.start = GuestAddress(0), .size = MiB(2)}`.
template <typename Start>
struct Range {
  Start start = {};
  ByteSize size = {};

  /// The first place after the range. It wraps unless IsValid().
  constexpr Start end() const { return start + size; }

  /// Does end() fit in 64 bits? A range whose end is 2^64 isn't valid.
  constexpr bool IsValid() const { return CheckedAdd(start, size).has_value(); }

  /// Does this range contain all of @p other? Never wraps; false if either range isn't valid.
  constexpr bool Contains(const Range& other) const {
    return IsValid() && other.IsValid() && other.start >= start && other.end() <= end();
  }

  /// Do the two ranges have a byte in common? False if either range isn't valid.
  constexpr bool Overlaps(const Range& other) const {
    return IsValid() && other.IsValid() && start < other.end() && other.start < end() &&
           size.value() > 0 && other.size.value() > 0;
  }

  friend constexpr bool operator==(const Range& a, const Range& b) = default;
};

using GuestRange = Range<GuestAddress>;
using ByteRange = Range<ByteOffset>;

/// A text for messages: "0x1000".
std::string ToString(GuestAddress address);
std::string ToString(ByteOffset offset);
/// A text for messages: "2 MiB", "12 KiB", "4097 bytes".
std::string ToString(ByteSize size);
/// A text for messages: "0x1000..0x2fff".
std::string ToString(const GuestRange& range);
std::string ToString(const ByteRange& range);

std::ostream& operator<<(std::ostream& os, GuestAddress address);
std::ostream& operator<<(std::ostream& os, ByteOffset offset);
std::ostream& operator<<(std::ostream& os, ByteSize size);
std::ostream& operator<<(std::ostream& os, const GuestRange& range);
std::ostream& operator<<(std::ostream& os, const ByteRange& range);

}  // namespace gmem

#endif  // GMEM_TYPES_H_
