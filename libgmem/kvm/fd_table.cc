// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/fd_table.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/unique_fd.h"
#include "kvm/fd_name.h"

namespace gmem::kvm {
namespace {

// The first descriptor that a service manager passes (SD_LISTEN_FDS_START), and the first one after
// standard input, output and error.
constexpr int kFirstFd = 3;

// A descriptor that a variable names; nobody owns it yet.
struct Named {
  std::string name;
  int fd;
};

absl::Status Malformed(absl::string_view variable, absl::string_view value,
                       absl::string_view what) {
  return internal::CheckError(EINVAL, absl::StrCat("$", variable, " is \"", value, "\": ", what));
}

// Parses "PID:5=ram0:6=ram1". Adds nothing if PID is another process.
absl::Status ParseOwn(absl::string_view value, std::vector<Named>& found) {
  if (value.empty()) return absl::OkStatus();
  const std::pair<absl::string_view, absl::string_view> pid_and_list =
      absl::StrSplit(value, absl::MaxSplits(':', 1));
  pid_t pid = 0;
  if (!absl::SimpleAtoi(pid_and_list.first, &pid)) {
    return Malformed(FdTable::kVariable, value, "it doesn't begin with a process ID and ':'");
  }
  if (pid != getpid()) return absl::OkStatus();

  for (const absl::string_view entry :
       absl::StrSplit(pid_and_list.second, ':', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(entry, absl::MaxSplits('=', 1));
    int fd = -1;
    if (!absl::SimpleAtoi(parts.first, &fd) || fd < 0) {
      return Malformed(FdTable::kVariable, value,
                       "behind the process ID it needs NUMBER=NAME, separated by ':'");
    }
    GMEM_RETURN_IF_ERROR(internal::CheckFdName(parts.second));
    std::string name(parts.second);
    found.push_back({std::move(name), fd});
  }
  return absl::OkStatus();
}

// Parses the variables as sd_listen_fds_with_names(3) does.
absl::Status ParseServiceManagers(FdTable::Environment environment, std::vector<Named>& found) {
  const char* const pid_text = environment("LISTEN_PID");
  const char* const count_text = environment("LISTEN_FDS");
  if (!pid_text || !count_text) return absl::OkStatus();

  int pid = 0;
  if (!absl::SimpleAtoi(pid_text, &pid)) return Malformed("LISTEN_PID", pid_text, "not a number");
  if (pid != getpid()) return absl::OkStatus();
  int count = 0;
  if (!absl::SimpleAtoi(count_text, &count) || count < 0 ||
      count > std::numeric_limits<int>::max() - kFirstFd) {
    return Malformed("LISTEN_FDS", count_text, "not a number of descriptors");
  }
  if (count == 0) return absl::OkStatus();

  const char* const names_text = environment("LISTEN_FDNAMES");
  std::vector<std::string> names;
  if (names_text) {
    names = absl::StrSplit(names_text, ':');
    if (names.size() != static_cast<size_t>(count)) {
      return Malformed("LISTEN_FDNAMES", names_text,
                       absl::StrCat("it needs as many names as there are descriptors: ", count));
    }
  }
  for (int i = 0; i < count; ++i) {
    std::string name = names_text ? std::move(names[static_cast<size_t>(i)]) : "";
    // sd_listen_fds_with_names() gives this name to a descriptor without one.
    if (name.empty()) name = "unknown";
    GMEM_RETURN_IF_ERROR(internal::CheckFdName(name));
    found.push_back({std::move(name), kFirstFd + i});
    // LISTEN_FDS may be huge: stop at the first descriptor that isn't open.
    if (fcntl(kFirstFd + i, F_GETFD) < 0) break;
  }
  return absl::OkStatus();
}

// exec() keeps the process ID. If $GMEM_FDS is for this process, the service manager's variables
// describe the descriptors of the previous program. Ignore those that $GMEM_FDS lists, because its
// names count, and those that are closed.
void AddManagers(std::vector<Named> managers, std::vector<Named>& found) {
  const size_t own = found.size();
  for (Named& named : managers) {
    const auto same_fd = [&named](const Named& other) { return other.fd == named.fd; };
    const bool kept =
        std::any_of(found.begin(), found.begin() + static_cast<ptrdiff_t>(own), same_fd);
    if (own > 0 && (kept || fcntl(named.fd, F_GETFD) < 0)) continue;
    found.push_back(std::move(named));
  }
}

// Checks all descriptors before any is closed or changed.
absl::Status CheckOpen(const std::vector<Named>& found) {
  std::vector<int> numbers;
  for (const Named& named : found) {
    if (named.fd < kFirstFd) {
      return internal::CheckError(EINVAL,
                                  absl::StrCat("\"", named.name, "\" is descriptor ", named.fd,
                                               ", which is standard input, output or error"));
    }
    if (fcntl(named.fd, F_GETFD) < 0) {
      return internal::CheckError(EINVAL, absl::StrCat("\"", named.name, "\" is descriptor ",
                                                       named.fd, ", which isn't open"));
    }
    numbers.push_back(named.fd);
  }
  std::sort(numbers.begin(), numbers.end());
  const auto twice = std::adjacent_find(numbers.begin(), numbers.end());
  if (twice == numbers.end()) return absl::OkStatus();
  return internal::CheckError(EINVAL, absl::StrCat("descriptor ", *twice, " has two names"));
}

absl::Status SetFlag(int fd, bool close_on_exec) {
  if (fcntl(fd, F_SETFD, close_on_exec ? FD_CLOEXEC : 0) == 0) return absl::OkStatus();
  return internal::ErrnoError(errno, absl::StrCat("can't set the flags of descriptor ", fd));
}

}  // namespace

absl::StatusOr<FdTable> FdTable::Inherit(Environment environment) {
  std::vector<Named> found;
  if (const char* const own = environment(kVariable)) GMEM_RETURN_IF_ERROR(ParseOwn(own, found));
  std::vector<Named> managers;
  GMEM_RETURN_IF_ERROR(ParseServiceManagers(environment, managers));
  AddManagers(std::move(managers), found);
  GMEM_RETURN_IF_ERROR(CheckOpen(found));

  FdTable table;
  for (Named& named : found) table.entries_.emplace_back(std::move(named.name), named.fd);
  GMEM_RETURN_IF_ERROR(table.SetCloseOnExec(true));
  return table;
}

absl::Status FdTable::CheckNew(absl::string_view name) const {
  GMEM_RETURN_IF_ERROR(internal::CheckFdName(name));
  if (Find(name) < 0) return absl::OkStatus();
  return internal::CheckError(EEXIST, absl::StrCat("\"", name, "\" is saved already"));
}

absl::Status FdTable::Save(absl::string_view name, int fd) {
  GMEM_RETURN_IF_ERROR(CheckNew(name));
  GMEM_ASSIGN_OR_RETURN(UniqueFd copy, UniqueFd::Duplicate(fd));
  if (copy.get() < kFirstFd) {
    // The program has closed its standard descriptors. Don't use their numbers: the next program
    // may not expect that.
    copy.reset(fcntl(fd, F_DUPFD_CLOEXEC, kFirstFd));
    if (!copy) {
      return internal::ErrnoError(errno, absl::StrCat("can't duplicate descriptor ", fd));
    }
  }
  entries_.emplace_back(name, std::move(copy));
  return absl::OkStatus();
}

absl::Status FdTable::Adopt(absl::string_view name, UniqueFd fd) {
  GMEM_RETURN_IF_ERROR(CheckNew(name));
  if (fd && fd.get() < kFirstFd) {
    return internal::CheckError(
        EINVAL, absl::StrCat("descriptor ", fd.get(), ", to be kept as \"", name,
                             "\", is standard input, output or error: take one from ", kFirstFd,
                             " on, or Save() a duplicate"));
  }
  GMEM_RETURN_IF_ERROR(SetFlag(fd.get(), true));
  entries_.emplace_back(name, std::move(fd));
  return absl::OkStatus();
}

int FdTable::Find(absl::string_view name) const {
  const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                  [name](const Entry& e) { return e.first == name; });
  return entry == entries_.end() ? -1 : entry->second.get();
}

absl::StatusOr<UniqueFd> FdTable::Take(absl::string_view name) {
  const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                  [name](const Entry& e) { return e.first == name; });
  if (entry == entries_.end()) {
    return internal::CheckError(ENOENT, absl::StrCat("no descriptor is saved as \"", name, "\""));
  }
  UniqueFd fd = std::move(entry->second);
  entries_.erase(entry);
  return fd;
}

absl::Status FdTable::SetCloseOnExec(bool on) {
  absl::Status status;
  for (const Entry& entry : entries_) status.Update(SetFlag(entry.second.get(), on));
  return status;
}

absl::StatusOr<std::string> FdTable::PrepareExec() {
  if (absl::Status status = SetCloseOnExec(false); !status.ok()) {
    CancelExec().IgnoreError();
    return status;
  }
  const auto format = [](std::string* out, const Entry& entry) {
    absl::StrAppend(out, entry.second.get(), "=", entry.first);
  };
  return absl::StrCat(kVariable, "=", getpid(), ":", absl::StrJoin(entries_, ":", format));
}

absl::Status FdTable::CancelExec() { return SetCloseOnExec(true); }

}  // namespace gmem::kvm
