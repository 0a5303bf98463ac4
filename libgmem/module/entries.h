// SPDX-License-Identifier: MIT OR Apache-2.0
// Calls of the module that fill an array of entries. Not installed.
#ifndef GMEM_MODULE_ENTRIES_H_
#define GMEM_MODULE_ENTRIES_H_

#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::internal {

// An array for a call. Entry: an entry as this library knows it. kFirstSize: the size of its first
// version, which modules before ABI 4 write.
template <typename Entry, size_t kCapacity, size_t kFirstSize>
class EntryArray {
 public:
  // Makes the call with room for kCapacity entries. Returns 0 or an errno. Call is a struct whose
  // @entry_size came with ABI 4.
  template <typename Call>
  int Fill(int fd, unsigned int request, Call* call) {
    call->size = sizeof(*call);
    call->nr_entries = kCapacity;
    call->entries = reinterpret_cast<uintptr_t>(bytes_);
    call->entry_size = stride_ = sizeof(Entry);
    if (ioctl(fd, request, call) == 0) return 0;
    if (errno != E2BIG) return errno;

    call->size = offsetof(Call, entry_size);
    call->entry_size = 0;
    stride_ = kFirstSize;
    return ioctl(fd, request, call) == 0 ? 0 : errno;
  }

  // Members that the module doesn't know are 0.
  Entry operator[](size_t index) const {
    Entry entry = {};
    std::memcpy(&entry, bytes_ + index * stride_, stride_);
    return entry;
  }

 private:
  static_assert(kFirstSize <= sizeof(Entry));

  alignas(Entry) uint8_t bytes_[kCapacity * sizeof(Entry)];
  size_t stride_ = sizeof(Entry);
};

}  // namespace gmem::internal
#pragma GCC visibility pop

#endif  // GMEM_MODULE_ENTRIES_H_
