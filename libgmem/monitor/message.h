// SPDX-License-Identifier: MIT OR Apache-2.0
// Parses netlink messages. The functions don't trust a message: each checks lengths and types, and
// its error (DataLoss, EBADMSG) names the fault. Not installed.
#ifndef GMEM_MONITOR_MESSAGE_H_
#define GMEM_MONITOR_MESSAGE_H_

#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/device.h"
#include "gmem/monitor.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// Calls @visit for each message of a datagram. The datagram begins at an address aligned for
// nlmsghdr. @visit gets only messages that lie completely within the datagram. Stops at the first
// error.
absl::Status ForEachMessage(absl::Span<const uint8_t> datagram,
                            absl::FunctionRef<absl::Status(const nlmsghdr&)> visit);

// The attributes of a set, numbered from 1.
class Attributes {
 public:
  static constexpr size_t kMax = 32;

  // Parses a message with a generic netlink header. Ignores types above kMax.
  static absl::StatusOr<Attributes> OfMessage(const nlmsghdr& message);
  // Parses the @size bytes from @data on.
  static absl::StatusOr<Attributes> OfBytes(const void* data, size_t size);

  bool Has(uint16_t type) const { return table_[type] != nullptr; }

  // @name is the attribute's name in the specification, for the error text.
  absl::StatusOr<uint16_t> U16(uint16_t type, absl::string_view name) const;
  absl::StatusOr<uint32_t> U32(uint16_t type, absl::string_view name) const;
  absl::StatusOr<uint64_t> U64(uint16_t type, absl::string_view name) const;
  // A string that ends with NUL.
  absl::StatusOr<std::string> String(uint16_t type, absl::string_view name) const;
  // Visits each attribute in an array of sets.
  absl::Status ForEachNested(uint16_t type, absl::string_view name,
                             absl::FunctionRef<absl::Status(const Attributes&)> visit) const;
  // Visits each set of a type that may occur several times. For all other types, the last
  // occurrence counts.
  absl::Status ForEachOfType(uint16_t type, absl::string_view name,
                             absl::FunctionRef<absl::Status(const Attributes&)> visit) const;

 private:
  const nlattr* table_[kMax + 1] = {};
  absl::Span<const uint8_t> bytes_;
};

// Returns the error in NLMSG_ERROR, or in NLMSG_DONE after a failed dump; OK for 0.
absl::Status ParseResult(const nlmsghdr& message, absl::string_view request);

absl::StatusOr<VmState> ParseVm(const nlmsghdr& message);
absl::StatusOr<VmBinding> ParseBinding(const nlmsghdr& message);
absl::StatusOr<VmFault> ParseFault(const nlmsghdr& message);
absl::StatusOr<GuestMemoryState> ParseGuestMemory(const nlmsghdr& message);
absl::StatusOr<WindowState> ParseWindow(const nlmsghdr& message);
absl::StatusOr<ViewState> ParseView(const nlmsghdr& message);
absl::StatusOr<DeviceStats> ParseStats(const nlmsghdr& message);
absl::StatusOr<Event> ParseEvent(const nlmsghdr& message);

// Does nlctrl announce that this family is gone?
absl::StatusOr<bool> IsEndOfFamily(const nlmsghdr& message, uint16_t family);

// Finds gaps in the numbers of events.
class SequenceChecker {
 public:
  // Returns how many messages are missing before the one numbered @sequence.
  uint64_t CountLost(uint64_t sequence) {
    // A lower number can't come, but don't trust the kernel's count.
    const uint64_t lost = last_ != 0 && sequence > last_ ? sequence - last_ - 1 : 0;
    last_ = sequence;
    return lost;
  }

 private:
  // 0 before the first message. The first number depends on the time when the socket joined.
  uint64_t last_ = 0;
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MONITOR_MESSAGE_H_
