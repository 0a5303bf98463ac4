// SPDX-License-Identifier: MIT OR Apache-2.0
// System calls that doubles answer instead of the kernel. Not installed.
#ifndef GMEM_TESTING_SYSTEM_CALLS_H_
#define GMEM_TESTING_SYSTEM_CALLS_H_

#include <sys/stat.h>
#include <sys/vfs.h>

#include <optional>

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::doubles {

// A double that has descriptors of its own. While it lives, the test program's ioctl(), fstat(),
// fstatfs(), pread(), mprotect() and mremap() ask it first. One file replaces these functions for
// all doubles, so that a program can link with several. Create and destroy doubles while no other
// thread makes these calls.
class SystemCalls {
 public:
  SystemCalls(const SystemCalls&) = delete;
  SystemCalls& operator=(const SystemCalls&) = delete;

  // 0 or more, or -errno; nothing if the descriptor isn't this double's.
  virtual std::optional<int> Ioctl(int fd, unsigned long request, void* argument) = 0;
  // Change the kernel's answers, if the descriptor is this double's.
  virtual void ChangeStat(int /*fd*/, struct stat& /*stat*/) const {}
  virtual void ChangeStatfs(int /*fd*/, struct statfs& /*fs*/) const {}
  // False for a file that can only be mapped: pread() fails.
  virtual bool HasRead(int /*fd*/) const { return true; }

  // The error of each mremap() or mprotect() of the program; 0: the kernel answers.
  virtual int MremapError() const { return 0; }
  virtual int MprotectError() const { return 0; }

  // The kernel's own fstat(): 0, or -1 and errno.
  static int RealFstat(int fd, struct stat* stat);

 protected:
  SystemCalls();
  ~SystemCalls();
};

}  // namespace gmem::doubles
#pragma GCC visibility pop

#endif  // GMEM_TESTING_SYSTEM_CALLS_H_
