// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/guest_memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

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
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/fallocate.h"
#include "base/host_map.h"
#include "base/range_error.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "module/entries.h"
#include "module/newer_module.h"

namespace gmem {
namespace {

using internal::CheckError;
using internal::ErrnoError;
using internal::FindRangeError;

// The number of runs that one call fetches; they lie on the stack.
constexpr size_t kRunBatch = 64;

// fallocate() takes signed numbers.
bool FitsFile(ByteRange range) {
  return range.IsValid() &&
         range.end().value() <= static_cast<uint64_t>(std::numeric_limits<off_t>::max());
}

// Why the pages of a range can't be looked at.
absl::Status LookError(absl::string_view verb, ByteRange range, int error) {
  const std::string wrong =
      FindRangeError({.start_name = "offset", .page_size = HostPageSize(), .page_owner = "host"},
                     range.start.value(), range.size);
  const std::string what = absl::StrCat("can't ", verb, " the pages of ", ToString(range));
  if (!wrong.empty()) return CheckError(error, absl::StrCat(what, ": ", wrong));
  return ErrnoError(error, what);
}

absl::Status RunsError(ByteRange range, int error) {
  if (error != ENOTTY) return LookError("list", range, error);
  return internal::NewerModuleError(
      error, absl::StrCat("can't list the pages of ", ToString(range)), "page runs", 4);
}

}  // namespace

bool GuestMemory::IsGuestMemory(int fd) {
  struct statfs fs = {};
  return fstatfs(fd, &fs) == 0 && fs.f_type == GMEM_MEM_MAGIC;
}

absl::StatusOr<GuestMemory> GuestMemory::Adopt(UniqueFd fd) {
  struct stat st = {};
  if (fstat(fd.get(), &st) != 0) {
    return ErrnoError(errno, absl::StrCat("can't adopt descriptor ", fd.get()));
  }
  if (!IsGuestMemory(fd.get())) {
    return CheckError(EINVAL, absl::StrCat("descriptor ", fd.get(),
                                           " is not a guestmem: pass one that "
                                           "Device::CreateGuestMemory() made"));
  }
  return GuestMemory(std::move(fd), ByteSize(static_cast<uint64_t>(st.st_size)),
                     ByteSize(static_cast<uint64_t>(st.st_blksize)), st.st_ino);
}

absl::StatusOr<Mapping> GuestMemory::Map(ByteRange range, MemoryAccess access) const {
  return internal::MapPart(fd_.get(), range, size_, access, "guestmem");
}

absl::Status GuestMemory::Fallocate(ByteRange range, int mode, absl::string_view verb) const {
  int error = range.IsValid() ? EINVAL : EOVERFLOW;
  if (FitsFile(range)) {
    error = internal::FallocateInChunks(fd_.get(), mode, range, page_size_);
    if (error == 0) return absl::OkStatus();
  }

  const std::string what = absl::StrCat("can't ", verb, " ", ToString(range), " of guestmem");
  if (error == EINVAL || error == EOVERFLOW) {
    const std::string wrong =
        FindRangeError({.start_name = "offset",
                        .page_size = page_size_,
                        .page_owner = "guestmem",
                        .limit = size_.value(),
                        .limit_name = absl::StrCat("the ", ToString(size_), " of this guestmem")},
                       range.start.value(), range.size);
    if (!wrong.empty()) return CheckError(error, absl::StrCat(what, ": ", wrong));
  }
  if (error == EACCES) {
    return ErrnoError(error, absl::StrCat(what,
                                          ": a VM with ReclaimPolicy::kDeny holds a page; "
                                          "unmap it there first"));
  }
  if (error == EBADF) {
    return ErrnoError(error, absl::StrCat(what, " with a descriptor that isn't open for writing"));
  }
  return ErrnoError(error, what);
}

absl::Status GuestMemory::Allocate(ByteRange range) const {
  return Fallocate(range, 0, "allocate");
}

absl::Status GuestMemory::PunchHole(ByteRange range) const {
  return Fallocate(range, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch a hole over");
}

absl::StatusOr<PageCounts> GuestMemory::Query(ByteRange range) const {
  gmem_mem_query query = {};
  query.size = sizeof(query);
  query.offset = range.start.value();
  query.length = range.size.value();
  if (ioctl(fd_.get(), GMEM_MEM_QUERY, &query) != 0) return LookError("count", range, errno);
  return PageCounts{.absent = query.absent,
                    .host = query.host,
                    .lent = query.lent,
                    .shared = query.shared,
                    .leaked = query.leaked};
}

absl::Status GuestMemory::ForEachRun(ByteRange range,
                                     absl::FunctionRef<bool(const PageRun&)> visit) const {
  internal::EntryArray<gmem_mem_run, kRunBatch, sizeof(gmem_mem_run)> entries;
  gmem_mem_runs runs = {};
  runs.offset = range.start.value();
  runs.length = range.size.value();
  // The kernel's runs end where one call ends.
  std::optional<PageRun> last;
  do {
    if (const int error = entries.Fill(fd_.get(), GMEM_MEM_RUNS, &runs); error != 0) {
      return RunsError(range, error);
    }
    for (uint32_t i = 0; i < runs.nr_entries; ++i) {
      const gmem_mem_run entry = entries[i];
      const auto state = static_cast<PageState>(entry.state);
      if (last && last->state == state) {
        last->range.size = last->range.size + ByteSize(entry.length);
        continue;
      }
      if (last && !visit(*last)) return absl::OkStatus();
      last = {.range = {ByteOffset(entry.offset), ByteSize(entry.length)}, .state = state};
    }
  } while (runs.length != 0);
  if (last) visit(*last);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PageRun>> GuestMemory::Runs(ByteRange range) const {
  std::vector<PageRun> runs;
  GMEM_RETURN_IF_ERROR(ForEachRun(range, [&runs](const PageRun& run) {
    runs.push_back(run);
    return true;
  }));
  return runs;
}

absl::StatusOr<GuestMemory> GuestMemory::Duplicate() const {
  GMEM_ASSIGN_OR_RETURN(UniqueFd fd, fd_.Duplicate());
  return GuestMemory(std::move(fd), size_, page_size_, id_);
}

absl::StatusOr<UniqueFd> GuestMemory::Reopen(MemoryAccess access) const {
  const std::string path = absl::StrCat("/proc/self/fd/", fd_.get());
  UniqueFd fd(
      open(path.c_str(), (access == MemoryAccess::kReadWrite ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!fd) return ErrnoError(errno, absl::StrCat("can't open ", path, " again"));
  return fd;
}

}  // namespace gmem
