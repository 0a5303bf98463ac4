// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vm.h"

#include <fcntl.h>
#include <linux/gmem.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "module/entries.h"
#include "module/newer_module.h"
#include "module/vm_error.h"

namespace gmem {
namespace {

using internal::CheckError;
using internal::EntryArray;
using internal::ErrnoError;

// The number of bindings that one call fetches; they lie on the stack.
constexpr size_t kQueryBatch = 32;
// The number of requests that one call fetches.
constexpr size_t kMaxRequests = 1024;

// Bytes of the entries in their first versions.
constexpr size_t kFirstBindingInfoSize = 40;
constexpr size_t kFirstFaultInfoSize = 32;

uint32_t ToFlags(MapMode mode) {
  if (mode == MapMode::kLend) return GMEM_MAP_FORCE_LEND;
  if (mode == MapMode::kShare) return GMEM_MAP_FORCE_SHARE;
  return GMEM_MAP_DEFAULT_ACCESS;
}

uint32_t ToFlags(const GuestAccess& access) {
  uint32_t flags = 0;
  if (access.read) flags |= GMEM_MAP_ALLOW_READ;
  if (access.write) flags |= GMEM_MAP_ALLOW_WRITE;
  if (access.execute) flags |= GMEM_MAP_ALLOW_EXEC;
  return flags;
}

uint32_t ToFlags(const MapOptions& options) {
  return ToFlags(options.mode) |
         ToFlags(
             GuestAccess{.read = options.read, .write = options.write, .execute = options.execute});
}

// Returns 0 or an errno.
int CallMap(int vm_fd, int guest_memory_fd, const MapOptions& options, uint32_t extra_flags) {
  gmem_map_mem map = {};
  map.guest_addr = options.guest_address.value();
  map.flags = ToFlags(options) | extra_flags;
  map.guest_mem_fd = static_cast<uint32_t>(guest_memory_fd);
  map.offset = options.offset.value();
  map.size = options.size.value();
  return ioctl(vm_fd, GMEM_VM_MAP_MEM, &map) == 0 ? 0 : errno;
}

// For the calls that take all options: sets *policy, which is 0 for none, and returns the flags.
uint32_t ToNewFlags(const MapOptions& options, uint32_t* policy) {
  *policy = options.policy ? static_cast<uint32_t>(*options.policy) : 0;
  uint32_t flags = ToFlags(options);
  if (options.policy) flags |= GMEM_MAP_POLICY;
  if (options.join) flags |= GMEM_MAP_JOIN;
  return flags;
}

// Returns 0 or an errno.
int CallNewMap(int vm_fd, int guest_memory_fd, const MapOptions& options) {
  gmem_vm_map map = {};
  map.size = sizeof(map);
  map.flags = ToNewFlags(options, &map.policy);
  map.guest_addr = options.guest_address.value();
  map.offset = options.offset.value();
  map.length = options.size.value();
  map.mem_fd = guest_memory_fd;
  return ioctl(vm_fd, GMEM_VM_MAP, &map) == 0 ? 0 : errno;
}

// Returns 0 or an errno. Sets *nr_pages if the call got far enough to count pages.
int CallRange(int vm_fd, unsigned int call, GuestRange range, uint64_t* nr_pages) {
  gmem_vm_range arg = {};
  arg.size = sizeof(arg);
  arg.guest_addr = range.start.value();
  arg.length = range.size.value();
  const int error = ioctl(vm_fd, call, &arg) == 0 ? 0 : errno;
  *nr_pages = arg.nr_pages;
  return error;
}

Binding ToBinding(const gmem_binding_info& info) {
  const bool share = (info.flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_SHARE;
  const bool has_policy = (info.flags & GMEM_MAP_POLICY) != 0;
  return {
      .range = {GuestAddress(info.guest_addr), ByteSize(info.length)},
      .offset = ByteOffset(info.offset),
      .memory_id = info.mem_id,
      .mode = share ? MapMode::kShare : MapMode::kLend,
      .read = (info.flags & GMEM_MAP_ALLOW_READ) != 0,
      .write = (info.flags & GMEM_MAP_ALLOW_WRITE) != 0,
      .execute = (info.flags & GMEM_MAP_ALLOW_EXEC) != 0,
      .policy = has_policy ? std::optional(static_cast<ReclaimPolicy>(info.policy)) : std::nullopt};
}

Fault ToFault(const gmem_fault_info& info) {
  return {.sequence = info.seq,
          .page = GuestAddress(info.guest_addr),
          .reason = static_cast<FaultReason>(info.reason),
          .read = (info.access & GMEM_ACCESS_READ) != 0,
          .write = (info.access & GMEM_ACCESS_WRITE) != 0,
          .execute = (info.access & GMEM_ACCESS_EXEC) != 0,
          .count = info.count,
          .thread = static_cast<pid_t>(info.pid)};
}

PageRequest ToRequest(const gmem_waiter_info& info) {
  return {.page = GuestAddress(info.guest_addr),
          .read = (info.access & GMEM_ACCESS_READ) != 0,
          .write = (info.access & GMEM_ACCESS_WRITE) != 0,
          .execute = (info.access & GMEM_ACCESS_EXEC) != 0,
          .nr_threads = info.nr_threads,
          .thread = static_cast<pid_t>(info.pid)};
}

// Of the calls for waiting.
absl::Status WaitError(absl::string_view what, int error) {
  if (error == ENOTTY) return internal::NewerModuleError(ENOTTY, what, "waiting", 4);
  if (error != EOPNOTSUPP) return ErrnoError(error, what);
  return CheckError(error, absl::StrCat(what, ": accesses of this VM don't wait; create it with ",
                                        "VmOptions::absent"));
}

// One call for at most @max requests. *from is where the next call of all requests goes on.
absl::StatusOr<std::vector<PageRequest>> CallWaiters(int vm_fd, uint32_t flags, size_t max,
                                                     uint64_t* from) {
  std::vector<gmem_waiter_info> entries(max);
  gmem_vm_waiters waiters = {};
  waiters.size = sizeof(waiters);
  waiters.flags = flags;
  waiters.nr_entries = static_cast<uint32_t>(max);
  waiters.entry_size = sizeof(gmem_waiter_info);
  waiters.guest_addr = *from;
  waiters.entries = reinterpret_cast<uintptr_t>(entries.data());
  if (ioctl(vm_fd, GMEM_VM_WAITERS, &waiters) != 0) {
    return WaitError("can't read the pages for which accesses wait", errno);
  }
  *from = waiters.guest_addr;
  std::vector<PageRequest> requests;
  requests.reserve(waiters.nr_entries);
  for (uint32_t i = 0; i < waiters.nr_entries; ++i) requests.push_back(ToRequest(entries[i]));
  return requests;
}

// Does the VM have this address? Returns 0 or an errno.
int ProbeAddress(int vm_fd, uint64_t address) {
  gmem_vm_query query = {};
  // No entry is wanted, so the first version of the struct is enough.
  query.size = offsetof(gmem_vm_query, entry_size);
  query.guest_addr = address;
  query.length = HostPageSize().value();
  return ioctl(vm_fd, GMEM_VM_QUERY, &query) == 0 ? 0 : errno;
}

absl::StatusOr<std::string> ReadFdInfo(int fd) {
  const std::string path = absl::StrCat("/proc/self/fdinfo/", fd);
  const UniqueFd info(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 512> text;
  const ssize_t length = info ? read(info.get(), text.data(), text.size()) : -1;
  if (length < 0) return ErrnoError(errno, absl::StrCat("can't read ", path));
  return std::string(text.data(), static_cast<size_t>(length));
}

}  // namespace

absl::StatusOr<Vm> Vm::Adopt(UniqueFd fd) {
  struct statfs fs = {};
  int error = fstatfs(fd.get(), &fs) == 0 ? 0 : errno;
  // The descriptor may be of any file. Call ioctl() only if it is of an anonymous inode, because
  // the number may have another meaning for a device.
  if (error == 0) {
    error = fs.f_type == ANON_INODE_FS_MAGIC ? ProbeAddress(fd.get(), 0) : ENOTTY;
  }
  if (error == 0) return Vm(std::move(fd));
  if (error != ENOTTY) {
    return ErrnoError(error, absl::StrCat("can't adopt descriptor ", fd.get()));
  }
  return CheckError(EINVAL, absl::StrCat("descriptor ", fd.get(),
                                         " is not a VM: pass one that Device::CreateVm() made"));
}

absl::StatusOr<Vm> Vm::Duplicate() const {
  GMEM_ASSIGN_OR_RETURN(UniqueFd fd, fd_.Duplicate());
  return Vm(std::move(fd));
}

absl::StatusOr<uint32_t> Vm::Id() const {
  constexpr absl::string_view kKey = "gmem-vm:";
  GMEM_ASSIGN_OR_RETURN(const std::string text, ReadFdInfo(fd_.get()));
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    uint32_t id = 0;
    if (absl::ConsumePrefix(&line, kKey) && absl::SimpleAtoi(line, &id)) return id;
  }
  return CheckError(EBADMSG, absl::StrCat("the fdinfo of descriptor ", fd_.get(),
                                          " doesn't say \"", kKey, "\" and a number"));
}

int Vm::GuestAddressBits() const {
  // The kernel says of each address whether it exists: search for the first bit that no address may
  // have set.
  int exists = 0;
  int missing = std::numeric_limits<uint64_t>::digits + 1;
  while (missing - exists > 1) {
    const int bits = (exists + missing) / 2;
    const uint64_t highest_page =
        (std::numeric_limits<uint64_t>::max() >> (std::numeric_limits<uint64_t>::digits - bits)) &
        ~(HostPageSize().value() - 1);
    (ProbeAddress(fd_.get(), highest_page) == 0 ? exists : missing) = bits;
  }
  return exists;
}

WindowKind Vm::Windows() const {
  // The call has no effect, because its range is empty: a VM whose windows aren't live refuses the
  // call itself, before it looks at the range.
  gmem_vm_window window = {};
  window.size = sizeof(window);
  if (ioctl(fd_.get(), GMEM_VM_WINDOW, &window) != 0 && errno == EINVAL) return WindowKind::kLive;

  void* const page = mmap(nullptr, HostPageSize().value(), PROT_NONE, MAP_SHARED, fd_.get(), 0);
  if (page == MAP_FAILED) return errno == ENODEV ? WindowKind::kNone : WindowKind::kPaged;
  munmap(page, HostPageSize().value());
  return WindowKind::kPaged;
}

absl::Status Vm::Map(int guest_memory_fd, const MapOptions& options) const {
  // Without these options, a VMM needs no newer module.
  const bool is_new = options.policy.has_value() || options.join;
  const int error = is_new ? CallNewMap(fd_.get(), guest_memory_fd, options)
                           : CallMap(fd_.get(), guest_memory_fd, options, 0);
  if (error == 0) return absl::OkStatus();
  return internal::MapError(*this, guest_memory_fd, options, error);
}

absl::Status Vm::Fill(const GuestMemory& memory, const MapOptions& options,
                      const void* source) const {
  gmem_vm_fill fill = {};
  fill.size = sizeof(fill);
  fill.flags = ToNewFlags(options, &fill.policy);
  fill.guest_addr = options.guest_address.value();
  fill.guest_mem_fd = static_cast<uint32_t>(memory.fd());
  fill.offset = options.offset.value();
  fill.length = options.size.value();
  fill.source = reinterpret_cast<uintptr_t>(source);
  if (ioctl(fd_.get(), GMEM_VM_FILL, &fill) == 0) return absl::OkStatus();
  if (errno == ENOTTY) {
    return internal::NewerModuleError(ENOTTY, "can't fill guest memory", "such call", 4);
  }
  if (errno == EFAULT) return ErrnoError(EFAULT, "can't read what is to fill guest memory");
  return internal::MapError(*this, memory.fd(), options, errno);
}

absl::Status Vm::UnmapExact(int guest_memory_fd, const MapOptions& options) const {
  const int error = CallMap(fd_.get(), guest_memory_fd, options, GMEM_MAP_UNMAP);
  if (error == 0) return absl::OkStatus();
  return internal::UnmapExactError(*this, guest_memory_fd, options, error);
}

absl::StatusOr<uint64_t> Vm::Unmap(GuestRange range) const {
  uint64_t nr_pages = 0;
  const int error = CallRange(fd_.get(), GMEM_VM_UNMAP, range, &nr_pages);
  if (error == 0) return nr_pages;
  return internal::VmRangeError(*this, "unmap", range, error, "nothing was unmapped");
}

absl::Status Vm::Change(GuestRange range, const ChangeOptions& options) const {
  gmem_vm_change change = {};
  change.size = sizeof(change);
  change.flags = ToFlags(options.mode);
  if (options.access) {
    const uint32_t access = ToFlags(*options.access);
    // The kernel would take this for rights that stay.
    if (access == 0) return internal::ChangeError(*this, range, options, EINVAL);
    change.flags |= access;
  }
  change.guest_addr = range.start.value();
  change.length = range.size.value();
  if (ioctl(fd_.get(), GMEM_VM_CHANGE, &change) == 0) return absl::OkStatus();
  return internal::ChangeError(*this, range, options, errno);
}

absl::Status Vm::Reclaim(GuestRange range, uint64_t* nr_pages) const {
  uint64_t done = 0;
  const int error = CallRange(fd_.get(), GMEM_VM_RECLAIM, range, &done);
  if (nr_pages != nullptr) *nr_pages = done;
  if (error == 0) return absl::OkStatus();
  return internal::VmRangeError(*this, "reclaim", range, error,
                                absl::StrCat(done, " pages came back before"));
}

absl::Status Vm::Populate(GuestRange range, uint64_t* nr_pages) const {
  uint64_t done = 0;
  const int error = CallRange(fd_.get(), GMEM_VM_POPULATE, range, &done);
  if (nr_pages != nullptr) *nr_pages = done;
  if (error == 0) return absl::OkStatus();
  return internal::VmRangeError(*this, "populate", range, error,
                                absl::StrCat("the first ", done, " pages are there"));
}

absl::Status Vm::ForEachBinding(GuestRange range,
                                absl::FunctionRef<bool(const Binding&)> visit) const {
  EntryArray<gmem_binding_info, kQueryBatch, kFirstBindingInfoSize> entries;
  gmem_vm_query query = {};
  query.guest_addr = range.start.value();
  query.length = range.size.value();
  do {
    if (const int error = entries.Fill(fd_.get(), GMEM_VM_QUERY, &query); error != 0) {
      return internal::VmRangeError(*this, "query", range, error, "");
    }
    for (uint32_t i = 0; i < query.nr_entries; ++i) {
      if (!visit(ToBinding(entries[i]))) return absl::OkStatus();
    }
  } while (query.length != 0);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Binding>> Vm::Query(GuestRange range) const {
  std::vector<Binding> bindings;
  GMEM_RETURN_IF_ERROR(ForEachBinding(range, [&bindings](const Binding& binding) {
    bindings.push_back(binding);
    return true;
  }));
  return bindings;
}

absl::StatusOr<std::vector<Binding>> Vm::Query() const {
  const int bits = GuestAddressBits();
  // A size can't express 2^64 bytes, so leave out the last page.
  const uint64_t size =
      bits < std::numeric_limits<uint64_t>::digits ? uint64_t{1} << bits : -HostPageSize().value();
  return Query({GuestAddress(0), ByteSize(size)});
}

absl::StatusOr<FaultReport> Vm::Faults(uint64_t since) const {
  EntryArray<gmem_fault_info, GMEM_NR_FAULTS, kFirstFaultInfoSize> entries;
  gmem_vm_faults faults = {};
  faults.seq = since;
  if (const int error = entries.Fill(fd_.get(), GMEM_VM_FAULTS, &faults); error != 0) {
    return ErrnoError(error, "can't read the refused accesses of the VM");
  }
  FaultReport report = {.faults = {}, .last_sequence = faults.seq, .lost = faults.lost};
  report.faults.reserve(faults.nr_entries);
  for (uint32_t i = 0; i < faults.nr_entries; ++i) report.faults.push_back(ToFault(entries[i]));
  return report;
}

bool FaultReport::IsInterruption() const {
  return std::any_of(faults.begin(), faults.end(), [](const Fault& fault) {
    return fault.reason == FaultReason::kInterrupted;
  });
}

absl::StatusOr<std::vector<PageRequest>> Vm::TakeRequests(size_t max) const {
  uint64_t from = 0;
  return CallWaiters(fd_.get(), 0, std::min(max, kMaxRequests), &from);
}

absl::StatusOr<std::vector<PageRequest>> Vm::Requests() const {
  std::vector<PageRequest> all;
  for (uint64_t from = 0;;) {
    GMEM_ASSIGN_OR_RETURN(const std::vector<PageRequest> some,
                          CallWaiters(fd_.get(), GMEM_WAITERS_ALL, kMaxRequests, &from));
    all.insert(all.end(), some.begin(), some.end());
    if (some.size() < kMaxRequests) return all;
  }
}

absl::Status Vm::SetAbsent(GuestRange range, AbsentPages absent) const {
  if (absent == AbsentPages::kWaitOrSignal) {
    return CheckError(EINVAL, "can't set kWaitOrSignal for a range: choose it for the VM");
  }
  gmem_vm_set_absent set = {};
  set.size = sizeof(set);
  set.absent = absent == AbsentPages::kFail ? GMEM_ABSENT_FAIL : GMEM_ABSENT_WAIT;
  set.guest_addr = range.start.value();
  set.length = range.size.value();
  if (ioctl(fd_.get(), GMEM_VM_SET_ABSENT, &set) == 0) return absl::OkStatus();
  const int error = errno;
  constexpr absl::string_view kVerb = "set the unbound pages of";
  if (error == ENOTTY || error == EOPNOTSUPP) return WaitError(absl::StrCat("can't ", kVerb, " a range"), error);
  return internal::VmRangeError(*this, kVerb, range, error, "");
}

absl::Status Vm::SetPolicy(ReclaimPolicy policy) const {
  gmem_vm_set_policy set = {};
  set.size = sizeof(set);
  set.policy = static_cast<uint32_t>(policy);
  if (ioctl(fd_.get(), GMEM_VM_SET_POLICY, &set) != 0) {
    return ErrnoError(errno, absl::StrCat("can't set reclaim policy ", set.policy));
  }
  return absl::OkStatus();
}

}  // namespace gmem
