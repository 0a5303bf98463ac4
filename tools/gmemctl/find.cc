// SPDX-License-Identifier: MIT OR Apache-2.0
#include "find.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "gmem/monitor.h"

namespace gmemctl {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kVmKey = "gmem-vm:", kMemoryKey = "gmem-mem:";
// A window descriptor keeps its VM, and a view its guestmem.
constexpr absl::string_view kWindowVmKey = "gmem-window-vm:", kViewMemoryKey = "gmem-view-mem:";

// Returns the number after one of @keys in a file of /proc/PID/fdinfo, if the file has such a key.
std::optional<uint64_t> ReadId(const fs::path& path,
                               std::initializer_list<absl::string_view> keys) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    for (const absl::string_view key : keys) {
      absl::string_view rest = line;
      uint64_t number = 0;
      if (absl::ConsumePrefix(&rest, key) &&
          absl::SimpleAtoi(absl::StripAsciiWhitespace(rest), &number)) {
        return number;
      }
    }
  }
  return std::nullopt;
}

std::string CommandOf(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return name;
}

// Returns the entries of a folder that are numbers, sorted. Returns fewer if a process ends
// meanwhile or the caller may not look into it.
std::vector<int> NumbersIn(const fs::path& folder) {
  std::vector<int> numbers;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    int number = 0;
    if (absl::SimpleAtoi(entry->path().filename().string(), &number)) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// Calls visit(fd, id) for each descriptor of the process whose fdinfo has one of @keys.
template <typename Visit>
void ForEachFd(pid_t pid, std::initializer_list<absl::string_view> keys, const Visit& visit) {
  const fs::path folder = absl::StrCat("/proc/", pid, "/fdinfo");
  for (const int fd : NumbersIn(folder)) {
    if (const auto id = ReadId(folder / std::to_string(fd), keys)) visit(fd, *id);
  }
}

HoldersById FindHolders(std::initializer_list<absl::string_view> keys) {
  HoldersById found;
  for (const pid_t pid : NumbersIn("/proc")) {
    ForEachFd(pid, keys, [&](int fd, uint64_t id) {
      found[id].push_back({.pid = pid, .fd = fd, .command = CommandOf(pid)});
    });
  }
  return found;
}

template <typename Object>
absl::StatusOr<Object> Take(absl::Span<const Holder> holders, absl::string_view key, uint64_t id,
                            absl::string_view what, absl::string_view parts) {
  const auto has_id = [&](const fs::path& fdinfo) { return ReadId(fdinfo, {key}) == id; };
  const std::string nobody =
      absl::StrCat("no process that you may look into has ", what, " ", id, " open");
  absl::Status why = absl::NotFoundError(
      holders.empty() ? absl::StrCat(nobody, ": run gmemctl as root, see \"gmemctl list\"")
                      : absl::StrCat(nobody, ", except by ", parts, ", which take no calls"));
  for (const Holder& holder : holders) {
    if (!has_id(absl::StrCat("/proc/", holder.pid, "/fdinfo/", holder.fd))) continue;
    absl::StatusOr<gmem::UniqueFd> fd = TakeFd(holder.pid, holder.fd);
    if (!fd.ok()) {
      why = fd.status();
      continue;
    }
    // Between the search and the call, the number may have become another file.
    if (!has_id(absl::StrCat("/proc/self/fdinfo/", fd->get()))) continue;
    return Object::Adopt(*std::move(fd));
  }
  return why;
}

}  // namespace

absl::StatusOr<gmem::UniqueFd> TakeFd(pid_t pid, int fd) {
  // Not by name: glibc 2.36 declares the two calls for C only.
  const gmem::UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return absl::ErrnoToStatus(errno, absl::StrCat("can't open process ", pid));
  gmem::UniqueFd result(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  if (!result) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("can't take descriptor ", fd, " of process ", pid));
  }
  return result;
}

HoldersById FindVmHolders() { return FindHolders({kVmKey, kWindowVmKey}); }
HoldersById FindMemoryHolders() { return FindHolders({kMemoryKey, kViewMemoryKey}); }

HeldObjects FindHeldBy(pid_t pid) {
  HeldObjects held;
  ForEachFd(pid, {kVmKey, kWindowVmKey}, [&](int, uint64_t id) { held.vms.insert(id); });
  ForEachFd(pid, {kMemoryKey, kViewMemoryKey}, [&](int, uint64_t id) { held.memories.insert(id); });
  return held;
}

absl::StatusOr<gmem::Vm> FindVm(uint32_t vm_id) {
  absl::StatusOr<gmem::Vm> vm =
      Take<gmem::Vm>(FindVmHolders()[vm_id], kVmKey, vm_id, "VM", "window descriptors");
  if (!absl::IsNotFound(vm.status())) return vm;
  // Is there such a VM at all? Only a caller with the right to netlink can know that.
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return vm;
  if (const auto state = monitor->FindVm(vm_id); absl::IsNotFound(state.status())) {
    return absl::NotFoundError(
        absl::StrCat("there is no VM ", vm_id, ": \"gmemctl list\" shows the VMs"));
  }
  return vm;
}

absl::StatusOr<gmem::GuestMemory> TakeGuestMemory(absl::Span<const Holder> holders,
                                                  uint64_t memory_id) {
  return Take<gmem::GuestMemory>(holders, kMemoryKey, memory_id, "guestmem", "views");
}

}  // namespace gmemctl
