// SPDX-License-Identifier: MIT OR Apache-2.0
#include "monitor/message.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/gmem.h>
#include <linux/gmem_netlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/device.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace gmem::internal {
namespace {

absl::Status Malformed(absl::string_view what) {
  return CheckError(EBADMSG,
                    absl::StrCat("a message of the netlink family gmem ", what,
                                 ": the versions of the module and of this library don't match"));
}

absl::Status Missing(absl::string_view name) {
  return Malformed(absl::StrCat("lacks the attribute ", name));
}

// Reads the values of one set of attributes, one after the other. Keeps the first error.
class Reader {
 public:
  explicit Reader(const Attributes& attributes) : attributes_(attributes) {}

  uint32_t U32(uint16_t type, absl::string_view name) { return Keep(attributes_.U32(type, name)); }
  uint64_t U64(uint16_t type, absl::string_view name) { return Keep(attributes_.U64(type, name)); }
  std::string String(uint16_t type, absl::string_view name) {
    return Keep(attributes_.String(type, name));
  }
  // Returns 0 if the attribute is absent.
  uint32_t OptionalU32(uint16_t type, absl::string_view name) {
    return attributes_.Has(type) ? U32(type, name) : 0;
  }
  uint64_t OptionalU64(uint16_t type, absl::string_view name) {
    return attributes_.Has(type) ? U64(type, name) : 0;
  }
  // Returns an empty string if the attribute is absent.
  std::string OptionalString(uint16_t type, absl::string_view name) {
    return attributes_.Has(type) ? String(type, name) : std::string();
  }
  bool Has(uint16_t type) const { return attributes_.Has(type); }

  const absl::Status& status() const { return status_; }

 private:
  template <typename T>
  T Keep(absl::StatusOr<T> value) {
    if (value.ok()) return *std::move(value);
    if (status_.ok()) status_ = std::move(value).status();
    return T();
  }

  const Attributes& attributes_;
  absl::Status status_;
};

std::optional<WindowKind> ToWindowKind(uint32_t kind) {
  switch (kind) {
    case GMEM_WINDOW_KIND_NONE:
      return WindowKind::kNone;
    case GMEM_WINDOW_KIND_PAGED:
      return WindowKind::kPaged;
    case GMEM_WINDOW_KIND_LIVE:
      return WindowKind::kLive;
    default:
      return std::nullopt;
  }
}

EventAccess AccessOfMapFlags(uint32_t flags) {
  return {.mode = (flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_SHARE ? MapMode::kShare
                                                                         : MapMode::kLend,
          .read = (flags & GMEM_MAP_ALLOW_READ) != 0,
          .write = (flags & GMEM_MAP_ALLOW_WRITE) != 0,
          .execute = (flags & GMEM_MAP_ALLOW_EXEC) != 0};
}

// Visits the sets in an array of attributes, of one type or of all types.
absl::Status ForEachSet(absl::Span<const uint8_t> bytes, std::optional<uint16_t> type,
                        absl::string_view name,
                        absl::FunctionRef<absl::Status(const Attributes&)> visit) {
  while (!bytes.empty()) {
    const auto* const entry = reinterpret_cast<const nlattr*>(bytes.data());
    if (!mnl_attr_ok(entry, static_cast<int>(bytes.size()))) {
      return Malformed(absl::StrCat("has an attribute ", name, " that is cut off"));
    }
    if (!type || mnl_attr_get_type(entry) == *type) {
      GMEM_ASSIGN_OR_RETURN(
          const Attributes attributes,
          Attributes::OfBytes(mnl_attr_get_payload(entry), mnl_attr_get_payload_len(entry)));
      GMEM_RETURN_IF_ERROR(visit(attributes));
    }
    bytes = bytes.subspan(std::min<size_t>(NLA_ALIGN(entry->nla_len), bytes.size()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ForEachMessage(absl::Span<const uint8_t> datagram,
                            absl::FunctionRef<absl::Status(const nlmsghdr&)> visit) {
  while (!datagram.empty()) {
    const auto* const message = reinterpret_cast<const nlmsghdr*>(datagram.data());
    // mnl_nlmsg_ok() takes the length as a signed number, and accepts lengths from 2^31 on.
    if (!mnl_nlmsg_ok(message, static_cast<int>(datagram.size())) ||
        message->nlmsg_len > datagram.size()) {
      return Malformed("is cut off");
    }
    GMEM_RETURN_IF_ERROR(visit(*message));
    // The last message needs no padding.
    datagram = datagram.subspan(std::min<size_t>(NLMSG_ALIGN(message->nlmsg_len), datagram.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Attributes> Attributes::OfBytes(const void* data, size_t size) {
  Attributes result;
  const auto* bytes = static_cast<const uint8_t*>(data);
  result.bytes_ = {bytes, size};
  while (size > 0) {
    const auto* const attribute = reinterpret_cast<const nlattr*>(bytes);
    if (!mnl_attr_ok(attribute, static_cast<int>(size))) {
      return Malformed("has an attribute that is cut off");
    }
    const uint16_t type = mnl_attr_get_type(attribute);
    if (type <= kMax) result.table_[type] = attribute;
    const size_t length = NLA_ALIGN(attribute->nla_len);
    if (length >= size) break;
    bytes += length;
    size -= length;
  }
  return result;
}

absl::StatusOr<Attributes> Attributes::OfMessage(const nlmsghdr& message) {
  const size_t size = mnl_nlmsg_get_payload_len(&message);
  if (message.nlmsg_len < NLMSG_HDRLEN || size < GENL_HDRLEN) return Malformed("has no header");
  return OfBytes(mnl_nlmsg_get_payload_offset(&message, GENL_HDRLEN), size - GENL_HDRLEN);
}

absl::StatusOr<uint16_t> Attributes::U16(uint16_t type, absl::string_view name) const {
  if (!Has(type)) return Missing(name);
  if (mnl_attr_get_payload_len(table_[type]) != sizeof(uint16_t)) {
    return Malformed(absl::StrCat("has an attribute ", name, " of the wrong size"));
  }
  return mnl_attr_get_u16(table_[type]);
}

absl::StatusOr<uint32_t> Attributes::U32(uint16_t type, absl::string_view name) const {
  if (!Has(type)) return Missing(name);
  if (mnl_attr_get_payload_len(table_[type]) != sizeof(uint32_t)) {
    return Malformed(absl::StrCat("has an attribute ", name, " of the wrong size"));
  }
  return mnl_attr_get_u32(table_[type]);
}

absl::StatusOr<uint64_t> Attributes::U64(uint16_t type, absl::string_view name) const {
  if (!Has(type)) return Missing(name);
  if (mnl_attr_get_payload_len(table_[type]) != sizeof(uint64_t)) {
    return Malformed(absl::StrCat("has an attribute ", name, " of the wrong size"));
  }
  return mnl_attr_get_u64(table_[type]);
}

absl::StatusOr<std::string> Attributes::String(uint16_t type, absl::string_view name) const {
  if (!Has(type)) return Missing(name);
  const char* const text = mnl_attr_get_str(table_[type]);
  const size_t size = mnl_attr_get_payload_len(table_[type]);
  const size_t length = strnlen(text, size);
  if (length == size) return Malformed(absl::StrCat("has an attribute ", name, " without an end"));
  return std::string(text, length);
}

absl::Status Attributes::ForEachNested(
    uint16_t type, absl::string_view name,
    absl::FunctionRef<absl::Status(const Attributes&)> visit) const {
  if (!Has(type)) return Missing(name);
  return ForEachSet({static_cast<const uint8_t*>(mnl_attr_get_payload(table_[type])),
                     mnl_attr_get_payload_len(table_[type])},
                    std::nullopt, name, visit);
}

absl::Status Attributes::ForEachOfType(
    uint16_t type, absl::string_view name,
    absl::FunctionRef<absl::Status(const Attributes&)> visit) const {
  return ForEachSet(bytes_, type, name, visit);
}

absl::Status ParseResult(const nlmsghdr& message, absl::string_view request) {
  const size_t size = mnl_nlmsg_get_payload_len(&message);
  if (message.nlmsg_len < NLMSG_HDRLEN) return Malformed("has no header");
  int error = 0;
  size_t used = sizeof(error);
  if (message.nlmsg_type == NLMSG_ERROR) {
    // The kernel sends only the header of the request back, because the socket has NETLINK_CAP_ACK.
    used = sizeof(nlmsgerr);
    if (size < used) return Malformed("is an error without a number");
  } else if (size < used) {
    return absl::OkStatus();
  }
  std::memcpy(&error, mnl_nlmsg_get_payload(&message), sizeof(error));
  if (error == 0) return absl::OkStatus();
  if (error > 0 || error < -4095) return Malformed(absl::StrCat("is an error numbered ", error));

  std::string what = absl::StrCat("can't ", request);
  if ((message.nlmsg_flags & NLM_F_ACK_TLVS) != 0 && size > used) {
    const auto extra =
        Attributes::OfBytes(mnl_nlmsg_get_payload_offset(&message, used), size - used);
    if (extra.ok() && extra->Has(NLMSGERR_ATTR_MSG)) {
      const auto text = extra->String(NLMSGERR_ATTR_MSG, "msg");
      if (text.ok()) absl::StrAppend(&what, ": ", *text);
    }
  }
  return ErrnoError(-error, what);
}

absl::StatusOr<VmState> ParseVm(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  VmState vm = {
      .id = reader.U32(GMEM_A_VM_ID, "id"),
      .provider = reader.String(GMEM_A_VM_PROVIDER, "provider"),
      .policy = static_cast<ReclaimPolicy>(reader.U32(GMEM_A_VM_POLICY, "policy")),
      .guest_address_bits =
          static_cast<int>(reader.U32(GMEM_A_VM_GUEST_ADDR_BITS, "guest-addr-bits")),
      .pid = reader.U32(GMEM_A_VM_PID, "pid"),
      .command = reader.String(GMEM_A_VM_COMM, "comm"),
      .bindings = reader.U64(GMEM_A_VM_BINDINGS, "bindings"),
      .lent_pages = reader.U64(GMEM_A_VM_LENT_PAGES, "lent-pages"),
      .refused = reader.U64(GMEM_A_VM_REFUSED, "refused"),
      .details = {},
      .name = reader.OptionalString(GMEM_A_VM_NAME, "name"),
  };
  if (reader.Has(GMEM_A_VM_WINDOW_KIND)) {
    vm.windows = ToWindowKind(reader.U32(GMEM_A_VM_WINDOW_KIND, "window-kind"));
  }
  GMEM_RETURN_IF_ERROR(reader.status());
  GMEM_RETURN_IF_ERROR(
      attributes.ForEachOfType(GMEM_A_VM_DETAIL, "detail", [&vm](const Attributes& detail) {
        Reader detail_reader(detail);
        vm.details.push_back({.name = detail_reader.String(GMEM_A_DETAIL_NAME, "name"),
                              .value = detail_reader.U64(GMEM_A_DETAIL_VALUE, "value")});
        return detail_reader.status();
      }));
  return vm;
}

absl::StatusOr<VmBinding> ParseBinding(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  const EventAccess access = AccessOfMapFlags(reader.U32(GMEM_A_BINDING_FLAGS, "flags"));
  VmBinding result = {
      .vm_id = reader.U32(GMEM_A_BINDING_VM_ID, "vm-id"),
      .binding = {
          .range = {GuestAddress(reader.U64(GMEM_A_BINDING_GUEST_ADDR, "guest-addr")),
                    ByteSize(reader.U64(GMEM_A_BINDING_LENGTH, "length"))},
          .offset = ByteOffset(reader.U64(GMEM_A_BINDING_OFFSET, "offset")),
          .memory_id = reader.U64(GMEM_A_BINDING_MEM_ID, "mem-id"),
          .mode = access.mode,
          .read = access.read,
          .write = access.write,
          .execute = access.execute,
      }};
  if (reader.Has(GMEM_A_BINDING_POLICY)) {
    result.binding.policy = static_cast<ReclaimPolicy>(reader.U32(GMEM_A_BINDING_POLICY, "policy"));
  }
  GMEM_RETURN_IF_ERROR(reader.status());
  if (!result.binding.range.IsValid() ||
      !CheckedAdd(result.binding.offset, result.binding.range.size)) {
    return Malformed("has a binding that ends beyond 2^64");
  }
  return result;
}

absl::StatusOr<VmFault> ParseFault(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  const uint32_t access = reader.U32(GMEM_A_FAULT_ACCESS, "access");
  const VmFault result = {
      .vm_id = reader.U32(GMEM_A_FAULT_VM_ID, "vm-id"),
      .fault = {.sequence = reader.U64(GMEM_A_FAULT_SEQ, "seq"),
                .page = GuestAddress(reader.U64(GMEM_A_FAULT_GUEST_ADDR, "guest-addr")),
                .reason = static_cast<FaultReason>(reader.U32(GMEM_A_FAULT_REASON, "reason")),
                .read = (access & GMEM_ACCESS_READ) != 0,
                .write = (access & GMEM_ACCESS_WRITE) != 0,
                .execute = (access & GMEM_ACCESS_EXEC) != 0,
                .count = reader.U64(GMEM_A_FAULT_COUNT, "count"),
                .thread = static_cast<pid_t>(reader.U32(GMEM_A_FAULT_TID, "tid"))}};
  GMEM_RETURN_IF_ERROR(reader.status());
  return result;
}

absl::StatusOr<GuestMemoryState> ParseGuestMemory(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  const GuestMemoryState memory = {
      .id = reader.U64(GMEM_A_MEM_ID, "id"),
      .size = ByteSize(reader.U64(GMEM_A_MEM_SIZE, "size")),
      .page_size = ByteSize(reader.U64(GMEM_A_MEM_PAGE_SIZE, "page-size")),
      .pages = {.absent = reader.U64(GMEM_A_MEM_ABSENT, "absent"),
                .host = reader.U64(GMEM_A_MEM_HOST, "host"),
                .lent = reader.U64(GMEM_A_MEM_LENT, "lent"),
                .shared = reader.U64(GMEM_A_MEM_SHARED, "shared"),
                .leaked = reader.U64(GMEM_A_MEM_LEAKED, "leaked")},
      .name = reader.OptionalString(GMEM_A_MEM_NAME, "name")};
  GMEM_RETURN_IF_ERROR(reader.status());
  return memory;
}

absl::StatusOr<WindowState> ParseWindow(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  const uint32_t flags = reader.U32(GMEM_A_WINDOW_FLAGS, "flags");
  WindowState window = {
      .id = reader.U32(GMEM_A_WINDOW_ID, "id"),
      .vm_id = reader.U32(GMEM_A_WINDOW_VM_ID, "vm-id"),
      .range = {GuestAddress(reader.U64(GMEM_A_WINDOW_GUEST_ADDR, "guest-addr")),
                ByteSize(reader.U64(GMEM_A_WINDOW_LENGTH, "length"))},
      .read_only = (flags & GMEM_WINDOW_READ_ONLY) != 0,
      .allow_discard = (flags & (GMEM_WINDOW_READ_ONLY | GMEM_WINDOW_NO_DISCARD)) == 0,
      .name = reader.String(GMEM_A_WINDOW_NAME, "name"),
      .pid = reader.U32(GMEM_A_WINDOW_PID, "pid"),
  };
  GMEM_RETURN_IF_ERROR(reader.status());
  if (!window.range.IsValid()) return Malformed("has a window descriptor that ends beyond 2^64");
  return window;
}

absl::StatusOr<ViewState> ParseView(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  ViewState view = {
      .id = reader.U32(GMEM_A_VIEW_ID, "id"),
      .memory_id = reader.U64(GMEM_A_VIEW_MEM_ID, "mem-id"),
      .range = {ByteOffset(reader.U64(GMEM_A_VIEW_OFFSET, "offset")),
                ByteSize(reader.U64(GMEM_A_VIEW_LENGTH, "length"))},
      .read_only = (reader.U32(GMEM_A_VIEW_FLAGS, "flags") & GMEM_VIEW_READ_ONLY) != 0,
      .revoked = reader.Has(GMEM_A_VIEW_REVOKED),
      .name = reader.String(GMEM_A_VIEW_NAME, "name"),
      .pid = reader.U32(GMEM_A_VIEW_PID, "pid"),
  };
  GMEM_RETURN_IF_ERROR(reader.status());
  if (!view.range.IsValid()) return Malformed("has a view that ends beyond 2^64");
  return view;
}

absl::StatusOr<DeviceStats> ParseStats(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  const DeviceStats stats = {.vms = reader.U64(GMEM_A_STATS_VMS, "vms"),
                             .guest_memories = reader.U64(GMEM_A_STATS_MEMS, "mems"),
                             .bindings = reader.U64(GMEM_A_STATS_BINDINGS, "bindings"),
                             .lent_pages = reader.U64(GMEM_A_STATS_LENT_PAGES, "lent-pages"),
                             .leaked_pages = reader.U64(GMEM_A_STATS_LEAKED_PAGES, "leaked-pages"),
                             .lends = reader.U64(GMEM_A_STATS_LENDS, "lends"),
                             .reclaims = reader.U64(GMEM_A_STATS_RECLAIMS, "reclaims"),
                             .refused = reader.U64(GMEM_A_STATS_REFUSED, "refused")};
  GMEM_RETURN_IF_ERROR(reader.status());
  return stats;
}

absl::StatusOr<Event> ParseEvent(const nlmsghdr& message) {
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  Reader reader(attributes);
  Event event = {
      .sequence = reader.U64(GMEM_A_EVENT_SEQ, "seq"),
      .type = static_cast<EventType>(reader.U32(GMEM_A_EVENT_TYPE, "type")),
      .vm_id = reader.OptionalU32(GMEM_A_EVENT_VM_ID, "vm-id"),
      .size = ByteSize(reader.OptionalU64(GMEM_A_EVENT_LENGTH, "length")),
      .error = static_cast<int>(reader.OptionalU32(GMEM_A_EVENT_ERROR, "error")),
      .count = reader.OptionalU64(GMEM_A_EVENT_COUNT, "count"),
      .lost = reader.OptionalU64(GMEM_A_EVENT_LOST, "lost"),
      .name = reader.OptionalString(GMEM_A_EVENT_NAME, "name"),
      .window_id = reader.OptionalU32(GMEM_A_EVENT_WINDOW_ID, "window-id"),
      .view_id = reader.OptionalU32(GMEM_A_EVENT_VIEW_ID, "view-id"),
  };
  if (reader.Has(GMEM_A_EVENT_WINDOW_KIND)) {
    event.window_kind = ToWindowKind(reader.U32(GMEM_A_EVENT_WINDOW_KIND, "window-kind"));
  }
  if (reader.Has(GMEM_A_EVENT_MEM_ID)) {
    event.memory_id = reader.U64(GMEM_A_EVENT_MEM_ID, "mem-id");
  }
  if (reader.Has(GMEM_A_EVENT_GUEST_ADDR)) {
    event.guest_address = GuestAddress(reader.U64(GMEM_A_EVENT_GUEST_ADDR, "guest-addr"));
  }
  if (reader.Has(GMEM_A_EVENT_OFFSET)) {
    event.offset = ByteOffset(reader.U64(GMEM_A_EVENT_OFFSET, "offset"));
  }
  if (reader.Has(GMEM_A_EVENT_FLAGS)) {
    event.access = AccessOfMapFlags(reader.U32(GMEM_A_EVENT_FLAGS, "flags"));
  }
  if (reader.Has(GMEM_A_EVENT_ACCESS)) {
    const uint32_t access = reader.U32(GMEM_A_EVENT_ACCESS, "access");
    event.access = EventAccess{.mode = MapMode::kDefault,
                               .read = (access & GMEM_ACCESS_READ) != 0,
                               .write = (access & GMEM_ACCESS_WRITE) != 0,
                               .execute = (access & GMEM_ACCESS_EXEC) != 0};
  }
  if (reader.Has(GMEM_A_EVENT_CAUSE)) {
    event.cause = static_cast<ReclaimCause>(reader.U32(GMEM_A_EVENT_CAUSE, "cause"));
  }
  if (reader.Has(GMEM_A_EVENT_REASON)) {
    event.reason = static_cast<FaultReason>(reader.U32(GMEM_A_EVENT_REASON, "reason"));
  }
  GMEM_RETURN_IF_ERROR(reader.status());
  // 0 is the library's own number for losses.
  if (event.type == EventType::kGap) return Malformed("is an event numbered 0");
  return event;
}

absl::StatusOr<bool> IsEndOfFamily(const nlmsghdr& message, uint16_t family) {
  if (message.nlmsg_type != GENL_ID_CTRL) return false;
  GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
  const auto* const generic = static_cast<const genlmsghdr*>(mnl_nlmsg_get_payload(&message));
  if (generic->cmd != CTRL_CMD_DELFAMILY) return false;
  GMEM_ASSIGN_OR_RETURN(const uint16_t id, attributes.U16(CTRL_ATTR_FAMILY_ID, "family-id"));
  return id == family;
}

}  // namespace gmem::internal
