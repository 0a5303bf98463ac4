// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/kvm/guest_memfd.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/fallocate.h"
#include "base/status.h"
#include "gmem/kvm/capabilities.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {
namespace {

// The name of a guest_memfd in /proc: "anon_inode:[kvm-gmem]" up to Linux 6.18, "/[kvm-gmem]"
// later. All other files with page cache have other names.
constexpr absl::string_view kName = "[kvm-gmem]";

absl::Status CheckIsGuestMemfd(int fd) {
  std::array<char, 64> name;
  const std::string link = absl::StrCat("/proc/self/fd/", fd);
  const ssize_t length = readlink(link.c_str(), name.data(), name.size());
  if (length < 0) return internal::ErrnoError(errno, absl::StrCat("can't read ", link));
  const absl::string_view target(name.data(), static_cast<size_t>(length));
  if (absl::StrContains(target, kName)) return absl::OkStatus();
  return internal::CheckError(
      EINVAL, absl::StrCat("descriptor ", fd, " is not a guest_memfd but ", target));
}

}  // namespace

absl::StatusOr<GuestMemfd> GuestMemfd::Adopt(UniqueFd fd, GuestMemfdKind kind, ByteSize size) {
  struct stat stat = {};
  if (fstat(fd.get(), &stat) != 0) {
    return internal::ErrnoError(errno, absl::StrCat("can't adopt descriptor ", fd.get()));
  }
  GMEM_RETURN_IF_ERROR(CheckIsGuestMemfd(fd.get()));
  const ByteSize actual(static_cast<uint64_t>(stat.st_size));
  if (actual != size) {
    return internal::CheckError(
        EINVAL, absl::StrCat("the guest_memfd of descriptor ", fd.get(), " has ", ToString(actual),
                             ", not ", ToString(size)));
  }
  const bool can_map = Mapping::OfFile(fd.get(), {.size = HostPageSize()}).ok();
  if (can_map != (kind != GuestMemfdKind::kPrivate)) {
    return internal::CheckError(EINVAL, absl::StrCat("the guest_memfd of descriptor ", fd.get(),
                                                     can_map ? " can" : " can't",
                                                     " be mapped: it is not ", ToString(kind)));
  }
  return GuestMemfd(std::move(fd), kind, size);
}

absl::Status GuestMemfd::CheckRange(ByteRange range) const {
  if (range.size == ByteSize(0) || !IsAligned(range.start, HostPageSize()) ||
      !IsAligned(range.size, HostPageSize())) {
    return internal::CheckError(
        EINVAL,
        absl::StrCat("range of ", ToString(range.size), " at offset ", ToString(range.start),
                     " is empty or not whole pages of ", ToString(HostPageSize())));
  }
  if (!this->range().Contains(range)) {
    return internal::CheckError(
        EINVAL,
        absl::StrCat("range of ", ToString(range.size), " at offset ", ToString(range.start),
                     " is beyond the guest_memfd of ", ToString(size_)));
  }
  return absl::OkStatus();
}

absl::StatusOr<Mapping> GuestMemfd::Map(MemoryAccess access) const { return Map(range(), access); }

absl::StatusOr<Mapping> GuestMemfd::Map(ByteRange range, MemoryAccess access) const {
  GMEM_RETURN_IF_ERROR(CheckRange(range));
  if (kind_ == GuestMemfdKind::kPrivate) {
    return absl::FailedPreconditionError(
        "a kPrivate guest_memfd can't be mapped: give its memslot other host memory");
  }
  return Mapping::OfFile(fd_.get(), {.offset = range.start, .size = range.size, .access = access});
}

absl::Status GuestMemfd::Fallocate(int mode, ByteRange range, const char* what) const {
  GMEM_RETURN_IF_ERROR(CheckRange(range));
  const int error =
      internal::FallocateInChunks(fd_.get(), mode | FALLOC_FL_KEEP_SIZE, range, HostPageSize());
  if (error == 0) return absl::OkStatus();
  return internal::ErrnoError(
      error, absl::StrCat("can't ", what, " ", ToString(range), " of the guest_memfd"));
}

absl::Status GuestMemfd::Allocate(ByteRange range) const { return Fallocate(0, range, "allocate"); }

absl::Status GuestMemfd::Discard(ByteRange range) const {
  return Fallocate(FALLOC_FL_PUNCH_HOLE, range, "free");
}

}  // namespace gmem::kvm
