// SPDX-License-Identifier: MIT OR Apache-2.0
#include "module/vm_error.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "module/newer_module.h"

namespace gmem::internal {
namespace {

RangeRules GuestRules(const Vm& vm, ByteSize page_size, absl::string_view page_owner) {
  RangeRules rules = {.start_name = "guest_addr",
                      .page_size = page_size,
                      .page_owner = page_owner,
                      .limit_name = ""};
  const int bits = vm.GuestAddressBits();
  if (bits > 0 && bits < 64) {
    rules.limit = uint64_t{1} << bits;
    rules.limit_name = absl::StrCat("the ", bits, "-bit guest address space of this VM");
  }
  return rules;
}

std::string PermissionNames(const MapOptions& options) {
  std::string names;
  if (options.read) names += "r";
  if (options.write) names += "w";
  if (options.execute) names += "x";
  return names;
}

// Explains EINVAL or EOVERFLOW; empty if the reason isn't clear.
std::string FindMapMistake(const Vm& vm, int fd, const MapOptions& options) {
  if (!options.read && !options.write && !options.execute) {
    return "no permission: set at least one of read, write and execute";
  }
  if (!GuestMemory::IsGuestMemory(fd)) {
    return absl::StrCat("descriptor ", fd,
                        " is not a guestmem: pass one from Device::CreateGuestMemory()");
  }
  struct stat st = {};
  if (fstat(fd, &st) != 0) return "";
  const ByteSize page_size(static_cast<uint64_t>(st.st_blksize));
  const ByteSize file_size(static_cast<uint64_t>(st.st_size));
  std::string wrong = FindRangeError(GuestRules(vm, page_size, "guestmem"),
                                     options.guest_address.value(), options.size);
  if (wrong.empty()) {
    wrong = FindRangeError(
        {.start_name = "offset",
         .page_size = page_size,
         .page_owner = "guestmem",
         .limit = file_size.value(),
         .limit_name = absl::StrCat("the ", ToString(file_size), " of this guestmem")},
        options.offset.value(), options.size);
  }
  return wrong;
}

bool IsOpenForReading(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_WRONLY;
}

bool HasHugePages(int guest_memory_fd) {
  struct stat st = {};
  return fstat(guest_memory_fd, &st) == 0 &&
         ByteSize(static_cast<uint64_t>(st.st_blksize)) > HostPageSize();
}

// Explains EEXIST.
std::string FindOverlap(const Vm& vm, GuestRange range) {
  std::string overlap;
  const absl::Status status = vm.ForEachBinding(range, [&overlap](const Binding& binding) {
    overlap =
        absl::StrCat("it overlaps the binding ", ToString(binding.range), ": unmap that first");
    return false;
  });
  if (!status.ok() || !overlap.empty()) return overlap;
  return "a part of the guestmem range is bound elsewhere, and lent memory can be bound only "
         "once: unmap it there, or share it in both places";
}

}  // namespace

absl::Status MapError(const Vm& vm, int guest_memory_fd, const MapOptions& options, int error) {
  const GuestRange range = {options.guest_address, options.size};
  const std::string what = absl::StrCat("can't map guest range ", ToString(range));

  switch (error) {
    case EINVAL:
    case EOVERFLOW:
      if (std::string wrong = FindMapMistake(vm, guest_memory_fd, options); !wrong.empty()) {
        return CheckError(error, absl::StrCat(what, ": ", wrong));
      }
      break;
    case EEXIST:
      if (std::string overlap = FindOverlap(vm, range); !overlap.empty()) {
        return CheckError(error, absl::StrCat(what, ": ", overlap));
      }
      break;
    case EOPNOTSUPP:
      if (HasHugePages(guest_memory_fd) && vm.Windows() == WindowKind::kLive) {
        return ErrnoError(error, absl::StrCat(what,
                                              ": this kernel's live windows can't show huge pages; "
                                              "create the VM with VmOptions::huge_pages"));
      }
      return ErrnoError(
          error,
          absl::StrCat(what, ": the VM's provider can't enforce access ", PermissionNames(options),
                       " (ProviderInfo::CanEnforce() says what the provider can enforce), or "
                       "has no use for secret memory"));
    case ENOSPC:
      return ErrnoError(error, absl::StrCat(what,
                                            ": the VM or its user has as many bindings as it can "
                                            "have (DeviceInfo::max_bindings, max_user_bindings): "
                                            "unmap some, or map larger ranges"));
    case EPERM:
      return ErrnoError(error, absl::StrCat(what,
                                            ": the VM's provider doesn't lend memory that the "
                                            "kernel can reach: use Device::CreateSecretMemory(), "
                                            "or load gmem with gunyah_lend_mapped=1"));
    case EACCES:
      return ErrnoError(error, absl::StrCat(what, ": descriptor ", guest_memory_fd,
                                            IsOpenForReading(guest_memory_fd)
                                                ? " isn't open for writing: share without write"
                                                : " isn't open for reading, which all access "
                                                  "needs: GuestMemory::Reopen() it"));
    case EBADF:
      return ErrnoError(error, absl::StrCat(what, ": guestmem descriptor ", guest_memory_fd));
    case ENOTTY:
      return NewerModuleError(error, what, "bindings with a policy, and joins none", 4);
    default:
      break;
  }
  return ErrnoError(error, what);
}

absl::Status ChangeError(const Vm& vm, GuestRange range, const ChangeOptions& options, int error) {
  const std::string what = absl::StrCat("can't change guest range ", ToString(range));
  switch (error) {
    case EINVAL:
      if (options.access && !options.access->read && !options.access->write &&
          !options.access->execute) {
        return CheckError(error, absl::StrCat(what,
                                              ": no permission: set at least one of read, write "
                                              "and execute"));
      }
      if (options.mode == MapMode::kDefault && !options.access) {
        return CheckError(error, absl::StrCat(what, ": nothing to change: set mode or access"));
      }
      break;
    case EEXIST:
      return ErrnoError(error, absl::StrCat(what,
                                            ": another binding has a page of it, and lent memory "
                                            "can be bound only once: unmap it there"));
    case EACCES:
      return ErrnoError(error, absl::StrCat(what,
                                            ": it was bound by a descriptor that isn't open for "
                                            "writing: share without write"));
    case EOPNOTSUPP:
      return ErrnoError(error, absl::StrCat(what,
                                            ": the VM's provider can't enforce the access, or "
                                            "changes nothing while the guest runs, or a writable "
                                            "window of kind kPaged shows the range: unmap that "
                                            "first"));
    case ENOSPC:
      return ErrnoError(error, absl::StrCat(what,
                                            ": the VM or its user has as many bindings as it can "
                                            "have (DeviceInfo::max_bindings, max_user_bindings): "
                                            "change whole bindings"));
    case ENOTTY:
      return NewerModuleError(error, what, "change in place", 4);
    default:
      break;
  }
  return VmRangeError(vm, "change", range, error, "nothing was changed");
}

absl::Status UnmapExactError(const Vm& vm, int guest_memory_fd, const MapOptions& options,
                             int error) {
  if (error != ENOENT) return MapError(vm, guest_memory_fd, options, error);
  return CheckError(error, absl::StrCat("no single binding holds ",
                                        ToString(GuestRange{options.guest_address, options.size}),
                                        " with this guestmem, offset ", ToString(options.offset),
                                        ", mode and access ", PermissionNames(options),
                                        ": Query() lists the bindings, Unmap() takes any range"));
}

absl::Status VmRangeError(const Vm& vm, absl::string_view verb, GuestRange range, int error,
                          absl::string_view progress) {
  std::string what = absl::StrCat("can't ", verb, " guest range ", ToString(range));
  if (error == EINVAL || error == EOVERFLOW) {
    std::string wrong = FindGuestRangeMistake(vm, range);
    if (wrong.empty() && error == EINVAL) {
      wrong =
          "it begins or ends inside a huge page of a binding: extend it to multiples of that "
          "guestmem's page size";
    }
    if (!wrong.empty()) return CheckError(error, absl::StrCat(what, ": ", wrong));
  }
  if (error == ENOENT) absl::StrAppend(&what, ": a part of it is unbound, Map() it first");
  if (error == EACCES) {
    absl::StrAppend(&what, ": the policy of the VM or of a binding is ReclaimPolicy::kDeny");
  }
  if (error == EBUSY) absl::StrAppend(&what, ": a page is pinned by other I/O, try again later");
  if (!progress.empty()) absl::StrAppend(&what, "; ", progress);
  return ErrnoError(error, what);
}

std::string FindGuestRangeMistake(const Vm& vm, GuestRange range) {
  return FindRangeError(GuestRules(vm, HostPageSize(), "host"), range.start.value(), range.size);
}

}  // namespace gmem::internal
