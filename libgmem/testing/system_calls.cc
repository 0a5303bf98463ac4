// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/system_calls.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <optional>
#include <vector>

namespace gmem::doubles {
namespace {

std::vector<SystemCalls*>& All() {
  static std::vector<SystemCalls*> all;
  return all;
}

}  // namespace

SystemCalls::SystemCalls() { All().push_back(this); }
SystemCalls::~SystemCalls() { All().erase(std::find(All().begin(), All().end(), this)); }

int SystemCalls::RealFstat(int fd, struct stat* stat) {
  return static_cast<int>(syscall(SYS_newfstatat, fd, "", stat, AT_EMPTY_PATH));
}

}  // namespace gmem::doubles

using gmem::doubles::SystemCalls;

// These replace the C library's functions. NOLINTNEXTLINE(google-runtime-int)
extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list args;
  va_start(args, request);
  void* const argument = va_arg(args, void*);
  va_end(args);

  for (SystemCalls* const one : gmem::doubles::All()) {
    const std::optional<int> result = one->Ioctl(fd, request, argument);
    if (!result) continue;
    if (*result >= 0) return *result;
    errno = -*result;
    return -1;
  }
  return static_cast<int>(syscall(SYS_ioctl, fd, request, argument));
}

extern "C" int fstat(int fd, struct stat* stat) noexcept {
  if (SystemCalls::RealFstat(fd, stat) != 0) return -1;
  for (const SystemCalls* const one : gmem::doubles::All()) one->ChangeStat(fd, *stat);
  return 0;
}

extern "C" int fstatfs(int fd, struct statfs* fs) noexcept {
  if (syscall(SYS_fstatfs, fd, fs) != 0) return -1;
  for (const SystemCalls* const one : gmem::doubles::All()) one->ChangeStatfs(fd, *fs);
  return 0;
}

extern "C" ssize_t pread(int fd, void* to, size_t size, off_t at) {
  for (const SystemCalls* const one : gmem::doubles::All()) {
    if (one->HasRead(fd)) continue;
    errno = ESPIPE;
    return -1;
  }
  return syscall(SYS_pread64, fd, to, size, at);
}

extern "C" int mprotect(void* start, size_t size, int access) noexcept {
  for (const SystemCalls* const one : gmem::doubles::All()) {
    if (one->MprotectError() == 0) continue;
    errno = one->MprotectError();
    return -1;
  }
  return static_cast<int>(syscall(SYS_mprotect, start, size, access));
}

extern "C" void* mremap(void* old, size_t old_size, size_t new_size, int flags, ...) noexcept {
  va_list args;
  va_start(args, flags);
  void* const fixed = (flags & MREMAP_FIXED) != 0 ? va_arg(args, void*) : nullptr;
  va_end(args);

  for (const SystemCalls* const one : gmem::doubles::All()) {
    if (one->MremapError() == 0) continue;
    errno = one->MremapError();
    return MAP_FAILED;
  }
  // NOLINTNEXTLINE(google-runtime-int,performance-no-int-to-ptr)
  return reinterpret_cast<void*>(syscall(SYS_mremap, old, old_size, new_size, flags, fixed));
}
