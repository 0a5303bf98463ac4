// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/monitor.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/gmem_netlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/device.h"
#include "gmem/types.h"
#include "monitor/message.h"

namespace gmem {
namespace {

using internal::Attributes;
using internal::CheckError;
using internal::ErrnoError;

// The kernel puts up to 32 KiB of a dump into one datagram if the reader has room.
constexpr size_t kBufferSize = 32 << 10;
// ReadEvents() stops after the datagram with which it has this many events.
constexpr size_t kEventsPerRead = 256;
// The module that lists refused accesses: the number of its ABI doesn't tell it.
constexpr absl::string_view kNewerModule = "a newer gmem.ko";

struct SocketCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, SocketCloser>;

using Buffer = std::vector<uint8_t>;
using Visit = absl::FunctionRef<absl::Status(const nlmsghdr&)>;

absl::StatusOr<Socket> OpenSocket() {
  Socket socket(mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC));
  if (socket == nullptr || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0) {
    return ErrnoError(errno, "can't open a netlink socket");
  }
  // Ask for the kernel's error text, and for replies without a copy of the request. Requests work
  // without these options, too.
  int on = 1;
  mnl_socket_setsockopt(socket.get(), NETLINK_EXT_ACK, &on, sizeof(on));
  mnl_socket_setsockopt(socket.get(), NETLINK_CAP_ACK, &on, sizeof(on));
  return socket;
}

// Receives one datagram from the kernel. With MSG_DONTWAIT, returns nothing if there is none.
// ENOBUFS if the socket dropped datagrams.
absl::StatusOr<std::optional<absl::Span<const uint8_t>>> Receive(const Socket& socket,
                                                                 Buffer& buffer, int flags) {
  while (true) {
    sockaddr_nl sender = {};
    iovec part = {.iov_base = buffer.data(), .iov_len = buffer.size()};
    msghdr header = {};
    header.msg_name = &sender;
    header.msg_namelen = sizeof(sender);
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    const ssize_t size = recvmsg(mnl_socket_get_fd(socket.get()), &header, flags);
    if (size < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return std::nullopt;
      return ErrnoError(errno, "can't receive from the netlink family gmem");
    }
    // Ignore datagrams that other processes sent.
    if (header.msg_namelen != sizeof(sender) || sender.nl_pid != 0) continue;
    if ((header.msg_flags & MSG_TRUNC) != 0) {
      return CheckError(EBADMSG,
                        absl::StrCat("a message of the netlink family gmem is longer than ",
                                     ToString(ByteSize(buffer.size()))));
    }
    return absl::MakeConstSpan(buffer.data(), static_cast<size_t>(size));
  }
}

// Explains the error of a request that an older module doesn't know.
template <typename T>
absl::StatusOr<T> ForNewerModule(absl::StatusOr<T> result,
                                 absl::string_view needed = "a gmem.ko of ABI 2 or later") {
  if (GetErrno(result.status()) != EOPNOTSUPP) return result;
  return CheckError(
      EOPNOTSUPP, absl::StrCat(result.status().message(), ": the module has none; load ", needed));
}

// A request, with room for one or two attributes.
class Request {
 public:
  Request(uint16_t family, uint8_t command, uint16_t flags) {
    nlmsghdr* const message = mnl_nlmsg_put_header(buffer_.data());
    message->nlmsg_type = family;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    auto* const generic =
        static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(message, sizeof(genlmsghdr)));
    generic->cmd = command;
    generic->version = 1;
  }

  Request& Add(uint16_t type, uint32_t value) {
    mnl_attr_put_u32(header(), type, value);
    return *this;
  }
  Request& Add(uint16_t type, uint64_t value) {
    mnl_attr_put_u64(header(), type, value);
    return *this;
  }
  Request& Add(uint16_t type, const char* value) {
    mnl_attr_put_strz(header(), type, value);
    return *this;
  }

  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }

 private:
  alignas(nlmsghdr) std::array<uint8_t, 128> buffer_ = {};
};

}  // namespace

struct __attribute__((visibility("hidden"))) Monitor::State {
  Socket requests;
  // A separate socket, so that events don't come between the parts of an answer.
  Socket events;
  uint16_t family = 0;
  uint32_t group = 0;
  // The group of nlctrl, the family that announces other families.
  uint32_t notify_group = 0;
  bool gone = false;
  uint32_t sequence = 0;
  internal::SequenceChecker checker;
  Buffer buffer = Buffer(kBufferSize);

  // Sends a request and calls @visit for each message of the answer. @what completes "can't ...".
  // Returns whether all objects in the answer existed at the same time.
  absl::StatusOr<bool> Ask(Request& request, absl::string_view what, Visit visit);
  // Repeats Ask() until all objects in the answer existed at the same time. Calls @restart before
  // each try.
  absl::Status Dump(Request& request, absl::string_view what, absl::FunctionRef<void()> restart,
                    Visit visit);

  // Finds the numbers of a family and of one of its groups.
  absl::Status Resolve(const char* family_name, absl::string_view group_name, uint16_t& id,
                       uint32_t& group_id);
  absl::Status ResolveAll();
  absl::Status ReadMessage(const nlmsghdr& message, std::vector<Event>& result);

  template <typename T>
  absl::StatusOr<std::vector<T>> DumpAll(Request request, absl::string_view what,
                                         absl::StatusOr<T> (*parse)(const nlmsghdr&));
  template <typename T>
  absl::StatusOr<T> AskOne(Request request, absl::string_view what,
                           absl::StatusOr<T> (*parse)(const nlmsghdr&));
};

absl::StatusOr<bool> Monitor::State::Ask(Request& request, absl::string_view what, Visit visit) {
  request.header()->nlmsg_seq = ++sequence;
  if (mnl_socket_sendto(requests.get(), request.header(), request.header()->nlmsg_len) < 0) {
    return ErrnoError(errno, absl::StrCat("can't ", what));
  }
  bool done = false;
  bool consistent = true;
  // After an error in one message, go on: no part of the answer may stay in the socket.
  absl::Status result;
  while (!done) {
    auto datagram = Receive(requests, buffer, 0);
    if (!datagram.ok()) return std::move(datagram).status();
    if (!*datagram) continue;
    GMEM_RETURN_IF_ERROR(internal::ForEachMessage(**datagram, [&](const nlmsghdr& message) {
      // Skip the rest of an earlier answer, which an error cut short.
      if (message.nlmsg_seq != sequence) return absl::OkStatus();
      if ((message.nlmsg_flags & NLM_F_DUMP_INTR) != 0) consistent = false;
      if (message.nlmsg_type == NLMSG_ERROR || message.nlmsg_type == NLMSG_DONE) {
        done = true;
        result.Update(internal::ParseResult(message, what));
      } else if (message.nlmsg_type >= NLMSG_MIN_TYPE && result.ok()) {
        result.Update(visit(message));
      }
      return absl::OkStatus();
    }));
  }
  if (!result.ok()) return result;
  return consistent;
}

absl::Status Monitor::State::Dump(Request& request, absl::string_view what,
                                  absl::FunctionRef<void()> restart, Visit visit) {
  for (int i = 0; i < kMaxDumps; ++i) {
    restart();
    GMEM_ASSIGN_OR_RETURN(const bool consistent, Ask(request, what, visit));
    if (consistent) return absl::OkStatus();
  }
  return CheckError(EAGAIN, absl::StrCat("can't ", what, ": the list changed during each of ",
                                         kMaxDumps, " tries; try again"));
}

template <typename T>
absl::StatusOr<std::vector<T>> Monitor::State::DumpAll(
    Request request, absl::string_view what, absl::StatusOr<T> (*parse)(const nlmsghdr&)) {
  std::vector<T> result;
  GMEM_RETURN_IF_ERROR(Dump(
      request, what, [&] { result.clear(); },
      [&](const nlmsghdr& message) -> absl::Status {
        GMEM_ASSIGN_OR_RETURN(T value, parse(message));
        result.push_back(std::move(value));
        return absl::OkStatus();
      }));
  return result;
}

template <typename T>
absl::StatusOr<T> Monitor::State::AskOne(Request request, absl::string_view what,
                                         absl::StatusOr<T> (*parse)(const nlmsghdr&)) {
  std::optional<T> result;
  const auto consistent = Ask(request, what, [&](const nlmsghdr& message) -> absl::Status {
    GMEM_ASSIGN_OR_RETURN(result, parse(message));
    return absl::OkStatus();
  });
  GMEM_RETURN_IF_ERROR(consistent.status());
  if (!result) {
    return CheckError(EBADMSG, absl::StrCat("can't ", what, ": the kernel sent no answer"));
  }
  return *std::move(result);
}

absl::Status Monitor::State::Resolve(const char* family_name, absl::string_view group_name,
                                     uint16_t& id, uint32_t& group_id) {
  Request request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, NLM_F_ACK);
  request.Add(CTRL_ATTR_FAMILY_NAME, family_name);
  group_id = 0;
  const auto parse = [&](const nlmsghdr& message) -> absl::Status {
    GMEM_ASSIGN_OR_RETURN(const Attributes attributes, Attributes::OfMessage(message));
    GMEM_ASSIGN_OR_RETURN(id, attributes.U16(CTRL_ATTR_FAMILY_ID, "family-id"));
    return attributes.ForEachNested(
        CTRL_ATTR_MCAST_GROUPS, "mcast-groups", [&](const Attributes& entry) -> absl::Status {
          GMEM_ASSIGN_OR_RETURN(const auto name, entry.String(CTRL_ATTR_MCAST_GRP_NAME, "name"));
          GMEM_ASSIGN_OR_RETURN(const auto number, entry.U32(CTRL_ATTR_MCAST_GRP_ID, "id"));
          if (name == group_name) group_id = number;
          return absl::OkStatus();
        });
  };
  GMEM_RETURN_IF_ERROR(
      Ask(request, absl::StrCat("find the netlink family ", family_name), parse).status());
  if (group_id != 0) return absl::OkStatus();
  return CheckError(EBADMSG, absl::StrCat("the netlink family ", family_name, " has no group \"",
                                          group_name, "\""));
}

absl::Status Monitor::State::ResolveAll() {
  uint16_t nlctrl = 0;
  GMEM_RETURN_IF_ERROR(Resolve("nlctrl", "notify", nlctrl, notify_group));
  absl::Status status = Resolve(GMEM_FAMILY_NAME, GMEM_MCGRP_EVENTS, family, group);
  if (GetErrno(status) == ENOENT) {
    return CheckError(ENOENT,
                      "there is no netlink family gmem: load the module gmem, and be in the host's "
                      "initial network namespace");
  }
  return status;
}

Monitor::Monitor(std::unique_ptr<State> state) : state_(std::move(state)) {}
Monitor::Monitor(Monitor&&) noexcept = default;
Monitor& Monitor::operator=(Monitor&&) noexcept = default;
Monitor::~Monitor() = default;

absl::StatusOr<Monitor> Monitor::Open() {
  auto state = std::make_unique<State>();
  GMEM_ASSIGN_OR_RETURN(state->requests, OpenSocket());
  GMEM_RETURN_IF_ERROR(state->ResolveAll());
  return Monitor(std::move(state));
}

absl::StatusOr<std::vector<VmState>> Monitor::Vms() {
  return state_->DumpAll(Request(state_->family, GMEM_CMD_VM_GET, NLM_F_DUMP), "list VMs",
                         internal::ParseVm);
}

absl::StatusOr<std::vector<VmBinding>> Monitor::Bindings() {
  return state_->DumpAll(Request(state_->family, GMEM_CMD_BINDING_GET, NLM_F_DUMP), "list bindings",
                         internal::ParseBinding);
}

absl::StatusOr<std::vector<VmBinding>> Monitor::Bindings(uint32_t vm_id) {
  return state_->DumpAll(
      Request(state_->family, GMEM_CMD_BINDING_GET, NLM_F_DUMP).Add(GMEM_A_BINDING_VM_ID, vm_id),
      absl::StrCat("list the bindings of VM ", vm_id), internal::ParseBinding);
}

absl::StatusOr<std::vector<VmFault>> Monitor::Faults() {
  return ForNewerModule(state_->DumpAll(Request(state_->family, GMEM_CMD_FAULT_GET, NLM_F_DUMP),
                                        "list refused accesses", internal::ParseFault),
                        kNewerModule);
}

absl::StatusOr<std::vector<VmFault>> Monitor::Faults(uint32_t vm_id) {
  return ForNewerModule(
      state_->DumpAll(
          Request(state_->family, GMEM_CMD_FAULT_GET, NLM_F_DUMP).Add(GMEM_A_FAULT_VM_ID, vm_id),
          absl::StrCat("list the refused accesses of VM ", vm_id), internal::ParseFault),
      kNewerModule);
}

absl::StatusOr<std::vector<GuestMemoryState>> Monitor::GuestMemories() {
  return state_->DumpAll(Request(state_->family, GMEM_CMD_MEM_GET, NLM_F_DUMP), "list guestmems",
                         internal::ParseGuestMemory);
}

absl::StatusOr<std::vector<WindowState>> Monitor::Windows() {
  return ForNewerModule(state_->DumpAll(Request(state_->family, GMEM_CMD_WINDOW_GET, NLM_F_DUMP),
                                        "list window descriptors", internal::ParseWindow));
}

absl::StatusOr<std::vector<ViewState>> Monitor::Views() {
  return ForNewerModule(state_->DumpAll(Request(state_->family, GMEM_CMD_VIEW_GET, NLM_F_DUMP),
                                        "list views", internal::ParseView));
}

absl::StatusOr<VmState> Monitor::FindVm(uint32_t vm_id) {
  return state_->AskOne(
      Request(state_->family, GMEM_CMD_VM_GET, NLM_F_ACK).Add(GMEM_A_VM_ID, vm_id),
      absl::StrCat("describe VM ", vm_id), internal::ParseVm);
}

absl::StatusOr<GuestMemoryState> Monitor::FindGuestMemory(uint64_t memory_id) {
  return state_->AskOne(
      Request(state_->family, GMEM_CMD_MEM_GET, NLM_F_ACK).Add(GMEM_A_MEM_ID, memory_id),
      absl::StrCat("describe guestmem ", memory_id), internal::ParseGuestMemory);
}

absl::StatusOr<WindowState> Monitor::FindWindow(uint32_t window_id) {
  return ForNewerModule(state_->AskOne(
      Request(state_->family, GMEM_CMD_WINDOW_GET, NLM_F_ACK).Add(GMEM_A_WINDOW_ID, window_id),
      absl::StrCat("describe window descriptor ", window_id), internal::ParseWindow));
}

absl::StatusOr<ViewState> Monitor::FindView(uint32_t view_id) {
  return ForNewerModule(state_->AskOne(
      Request(state_->family, GMEM_CMD_VIEW_GET, NLM_F_ACK).Add(GMEM_A_VIEW_ID, view_id),
      absl::StrCat("describe view ", view_id), internal::ParseView));
}

absl::StatusOr<DeviceStats> Monitor::Stats() {
  return state_->AskOne(Request(state_->family, GMEM_CMD_STATS_GET, NLM_F_ACK),
                        "read the module's counters", internal::ParseStats);
}

absl::Status Monitor::Subscribe(ByteSize buffer) {
  if (state_->events != nullptr) {
    return absl::FailedPreconditionError("Subscribe() works only once on a Monitor");
  }
  GMEM_ASSIGN_OR_RETURN(Socket socket, OpenSocket());
  // The kernel doubles the size for its own overhead. A process that may join the group may also
  // exceed the system's limit, unless it has dropped CAP_NET_ADMIN; then the limit applies.
  const int size =
      static_cast<int>(std::min<uint64_t>(buffer.value(), std::numeric_limits<int>::max() / 2));
  const int fd = mnl_socket_get_fd(socket.get());
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0 &&
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) != 0) {
    return ErrnoError(errno, absl::StrCat("can't give the socket a buffer of ", ToString(buffer)));
  }
  // Join this group before the group of events: the monitor then learns if the family ends.
  if (mnl_socket_setsockopt(socket.get(), NETLINK_ADD_MEMBERSHIP, &state_->notify_group,
                            sizeof(state_->notify_group)) != 0) {
    return ErrnoError(errno, "can't join the group \"notify\" of the netlink family nlctrl");
  }
  if (mnl_socket_setsockopt(socket.get(), NETLINK_ADD_MEMBERSHIP, &state_->group,
                            sizeof(state_->group)) != 0) {
    const int error = errno;
    return ErrnoError(error, error == EPERM ? "can't join the group of events: CAP_SYS_ADMIN is "
                                              "needed in the initial user namespace"
                                            : "can't join the group of events");
  }
  state_->events = std::move(socket);
  return absl::OkStatus();
}

int Monitor::fd() const {
  return state_->events == nullptr ? -1 : mnl_socket_get_fd(state_->events.get());
}

absl::Status Monitor::State::ReadMessage(const nlmsghdr& message, std::vector<Event>& result) {
  GMEM_ASSIGN_OR_RETURN(const bool end, internal::IsEndOfFamily(message, family));
  if (end) gone = true;
  if (message.nlmsg_type != family || gone) return absl::OkStatus();
  GMEM_ASSIGN_OR_RETURN(const Event event, internal::ParseEvent(message));
  if (const uint64_t lost = checker.CountLost(event.sequence); lost != 0) {
    result.push_back({.type = EventType::kGap, .lost = lost});
  }
  result.push_back(event);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Event>> Monitor::ReadEvents() {
  if (state_->events == nullptr) {
    return absl::FailedPreconditionError("call Subscribe() before ReadEvents()");
  }
  std::vector<Event> result;
  while (result.size() < kEventsPerRead && !state_->gone) {
    auto datagram = Receive(state_->events, state_->buffer, MSG_DONTWAIT);
    if (GetErrno(datagram.status()) == ENOBUFS) {
      result.push_back({.type = EventType::kGap});
      continue;
    }
    absl::Status status = datagram.status();
    if (status.ok()) {
      if (!*datagram) break;
      status = internal::ForEachMessage(**datagram, [&](const nlmsghdr& message) {
        return state_->ReadMessage(message, result);
      });
    }
    if (!status.ok()) {
      // Return the events that were read before the error. The gap in the numbers shows later how
      // many are lost.
      if (result.empty()) return status;
      break;
    }
  }
  if (state_->gone && result.empty()) {
    return CheckError(ESHUTDOWN,
                      "the module gmem was unloaded, so no more events come: Open() a new Monitor");
  }
  return result;
}

}  // namespace gmem
