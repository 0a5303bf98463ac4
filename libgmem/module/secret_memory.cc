// SPDX-License-Identifier: MIT OR Apache-2.0
#include <fcntl.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "module/newer_module.h"
#include "module/object_name.h"

namespace gmem {
namespace {

using internal::ErrnoError;

// A secret memory file gets its pages only at the first touch through a mapping.
absl::Status Fill(int fd, ByteSize size) {
  GMEM_ASSIGN_OR_RETURN(const Mapping mapping, Mapping::OfFile(fd, {.size = size}));
  for (size_t at = 0; at < mapping.size(); at += HostPageSize().value()) {
    *static_cast<volatile uint8_t*>(mapping.data() + at) = 0;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GuestMemory> Device::CreateSecretMemory(ByteSize size,
                                                       absl::string_view name) const {
  gmem_mem_from_secret from = {};
  from.size = sizeof(from);
  from.flags = GMEM_MEM_CLOEXEC;
  GMEM_RETURN_IF_ERROR(internal::SetName(name, from.name));

  const std::string what =
      absl::StrCat("can't create a guestmem of ", ToString(size), " of secret memory");
  if (size == ByteSize(0) || !IsAligned(size, HostPageSize())) {
    return internal::CheckError(
        EINVAL, absl::StrCat(what, ": that isn't a multiple of ", ToString(HostPageSize())));
  }
  // Close-on-exec: no other process may inherit the descriptor, because the module accepts it only
  // if it is open nowhere else.
  UniqueFd secret(static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC)));
  if (!secret) {
    return ErrnoError(errno, absl::StrCat(what,
                                          ", for which the kernel needs CONFIG_SECRETMEM, "
                                          "and on some secretmem.enable=1"));
  }
  if (ftruncate(secret.get(), static_cast<off_t>(size.value())) != 0) {
    return ErrnoError(errno, what);
  }
  GMEM_RETURN_IF_ERROR(Fill(secret.get(), size));

  from.secret_fd = secret.get();
  UniqueFd fd(ioctl(fd_.get(), GMEM_MEM_FROM_SECRET, &from));
  if (!fd) {
    const int error = errno;
    if (error != E2BIG) return ErrnoError(error, what);
    return internal::NewerModuleError(EOPNOTSUPP, absl::StrCat(what, " with a name"), "names");
  }
  // The module has closed the descriptor.
  static_cast<void>(secret.release());
  return GuestMemory::Adopt(std::move(fd));
}

}  // namespace gmem
