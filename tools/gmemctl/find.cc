// SPDX-License-Identifier: Apache-2.0
#include "find.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace gmemctl {
namespace {

namespace fs = std::filesystem;

// Does a file of /proc/PID/fdinfo name this thing?
bool Names(const fs::path& path, absl::string_view key, uint64_t id) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    absl::string_view rest = line;
    uint64_t number = 0;
    if (absl::ConsumePrefix(&rest, key) &&
        absl::SimpleAtoi(absl::StripAsciiWhitespace(rest), &number) && number == id) {
      return true;
    }
  }
  return false;
}

// What ends while we look, or isn't ours to see, is passed over.
template <typename Object>
absl::StatusOr<Object> Find(absl::string_view key, uint64_t id, absl::string_view what,
                            bool (*is_it)(const Object& object, uint64_t id)) {
  absl::Status why;
  std::error_code ignored;
  for (fs::directory_iterator process("/proc", ignored), end; process != end;
       process.increment(ignored)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(process->path().filename().string(), &pid)) continue;
    std::error_code gone;
    for (fs::directory_iterator entry(process->path() / "fdinfo", gone);
         !gone && entry != fs::directory_iterator(); entry.increment(gone)) {
      int number = -1;
      if (!Names(entry->path(), key, id) ||
          !absl::SimpleAtoi(entry->path().filename().string(), &number)) {
        continue;
      }
      absl::StatusOr<gmem::UniqueFd> fd = TakeFd(pid, number);
      if (!fd.ok()) {
        why = fd.status();
        continue;
      }
      absl::StatusOr<Object> object = Object::Adopt(*std::move(fd));
      // It may be another file by now.
      if (object.ok() && is_it(*object, id)) return object;
    }
  }
  if (!why.ok()) return why;
  return absl::NotFoundError(absl::StrCat("no process that you may look into has ", what, " ", id,
                                          " open: run gmemctl as root, see \"gmemctl list\""));
}

}  // namespace

absl::StatusOr<gmem::UniqueFd> TakeFd(pid_t pid, int fd) {
  // glibc 2.36 declares the two calls for C alone.
  const gmem::UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return absl::ErrnoToStatus(errno, absl::StrCat("can't open process ", pid));
  gmem::UniqueFd result(static_cast<int>(syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  if (!result) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("can't take descriptor ", fd, " of process ", pid));
  }
  return result;
}

absl::StatusOr<gmem::Vm> FindVm(uint32_t vm_id) {
  return Find<gmem::Vm>("gmem-vm:", vm_id, "VM", [](const gmem::Vm& vm, uint64_t id) {
    return Names(absl::StrCat("/proc/self/fdinfo/", vm.fd()), "gmem-vm:", id);
  });
}

absl::StatusOr<gmem::GuestMemory> FindGuestMemory(uint64_t memory_id) {
  return Find<gmem::GuestMemory>(
      "gmem-mem:", memory_id, "guestmem",
      [](const gmem::GuestMemory& memory, uint64_t id) { return memory.id() == id; });
}

}  // namespace gmemctl
