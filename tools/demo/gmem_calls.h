// SPDX-License-Identifier: MIT OR Apache-2.0
// The ioctls as functions, for programs that need only the kernel. On an error that it doesn't
// return, a function prints a message and ends the program.
#ifndef GMEM_TOOLS_GMEM_CALLS_H_
#define GMEM_TOOLS_GMEM_CALLS_H_

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/gmem.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/exit_status.h"

namespace gmem_tools {

inline constexpr uint64_t kPage = 4096;
inline constexpr uint64_t kMiB = 1 << 20;
inline constexpr uint32_t kLend = GMEM_MAP_FORCE_LEND | GMEM_MAP_ALLOW_RWX;
inline constexpr uint32_t kShare = GMEM_MAP_FORCE_SHARE | GMEM_MAP_ALLOW_RWX;

// Answers --help and --version, and refuses what isn't one of @words. Returns the exit status, or
// nothing if the program must go on. The programs here don't link Abseil, so they can't have
// tools::RunProgram().
inline std::optional<int> HandleArguments(const std::string& program,
                                          const std::vector<std::string>& words, int argc,
                                          char** argv) {
  const std::string word = argc > 1 ? argv[1] : "";
  if (argc <= 1 || (argc == 2 && std::find(words.begin(), words.end(), word) != words.end())) {
    return std::nullopt;
  }
  if (word == "--version") {
    std::printf("%s %s\n", program.c_str(), GMEM_VERSION);
    return 0;
  }
  std::string usage = "usage: " + program;
  for (size_t i = 0; i < words.size(); ++i) usage += (i == 0 ? " [" : "|") + words[i];
  if (!words.empty()) usage += "]";
  if (word == "--help" || word == "-h") {
    std::printf("%s\n", usage.c_str());
    return 0;
  }
  std::fprintf(stderr, "%s: \"%s\" isn't valid here; %s\n", program.c_str(), word.c_str(),
               usage.c_str());
  return tools::kExitUsage;
}

[[noreturn]] inline void Die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(tools::kExitFailed);
}

// An owned file descriptor.
class Fd {
 public:
  Fd() = default;
  Fd(int fd, const char* what) : fd_(fd) {
    if (fd < 0) Die(what, errno);
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { Close(); }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

inline Fd OpenDevice() { return Fd(open("/dev/gmem", O_RDWR | O_CLOEXEC), "/dev/gmem"); }

inline Fd CreateMem(const Fd& device, uint64_t size, uint64_t flags = 0) {
  gmem_create_mem create = {};
  create.flags = flags | GMEM_MEM_CLOEXEC;
  create.size = size;
  return Fd(ioctl(device.get(), GMEM_CREATE_MEM, &create), "GMEM_CREATE_MEM");
}

inline Fd CreateVm(const Fd& device) {
  return Fd(ioctl(device.get(), GMEM_CREATE_VM, 0), "GMEM_CREATE_VM");
}

// Can VMs have live windows, each of which is one mapping?
inline bool HasLiveWindows(const Fd& device) {
  gmem_info info = {};
  info.size = sizeof(info);
  if (ioctl(device.get(), GMEM_INFO, &info) != 0) Die("GMEM_INFO", errno);
  return (info.features & GMEM_FEATURE_LIVE) != 0;
}

// Can a VM with live windows take guestmems with huge pages?
inline bool TakesHugePages(const Fd& device) {
  gmem_info info = {};
  info.size = sizeof(info);
  if (ioctl(device.get(), GMEM_INFO, &info) != 0) Die("GMEM_INFO", errno);
  return (info.features & GMEM_FEATURE_LIVE_HUGE) != 0;
}

inline Fd CreateLiveVm(const Fd& device) {
  gmem_vm_create create = {};
  create.size = sizeof(create);
  create.flags = GMEM_VM_LIVE;
  return Fd(ioctl(device.get(), GMEM_VM_CREATE, &create), "GMEM_VM_CREATE");
}

inline void Bind(const Fd& vm, const Fd& mem, uint64_t guest_addr, uint64_t offset, uint64_t size,
                 uint32_t flags) {
  gmem_map_mem map = {};
  map.guest_addr = guest_addr;
  map.flags = flags;
  map.guest_mem_fd = static_cast<uint32_t>(mem.get());
  map.offset = offset;
  map.size = size;
  if (ioctl(vm.get(), GMEM_VM_MAP_MEM, &map) != 0) Die("GMEM_VM_MAP_MEM", errno);
}

// A view of a range of a guestmem.
inline Fd CreateView(const Fd& mem, uint64_t offset, uint64_t length) {
  gmem_mem_view view = {};
  view.size = sizeof(view);
  view.offset = offset;
  view.length = length;
  return Fd(ioctl(mem.get(), GMEM_MEM_VIEW, &view), "GMEM_MEM_VIEW");
}

// Makes a call on a range of a VM; returns the number of its pages that changed.
inline uint64_t RangeCall(const Fd& vm, uint32_t call, const char* name, uint64_t guest_addr,
                          uint64_t length) {
  gmem_vm_range range = {};
  range.size = sizeof(range);
  range.guest_addr = guest_addr;
  range.length = length;
  if (ioctl(vm.get(), call, &range) != 0) Die(name, errno);
  return range.nr_pages;
}

// Returns the number of pages that were unbound.
inline uint64_t Unbind(const Fd& vm, uint64_t guest_addr, uint64_t length) {
  return RangeCall(vm, GMEM_VM_UNMAP, "GMEM_VM_UNMAP", guest_addr, length);
}

// Changes a range in place; @flags: an access, rights, or both.
inline void Change(const Fd& vm, uint64_t guest_addr, uint64_t length, uint32_t flags) {
  gmem_vm_change change = {};
  change.size = sizeof(change);
  change.flags = flags;
  change.guest_addr = guest_addr;
  change.length = length;
  if (ioctl(vm.get(), GMEM_VM_CHANGE, &change) != 0) Die("GMEM_VM_CHANGE", errno);
}

inline void Populate(const Fd& vm, uint64_t guest_addr, uint64_t length) {
  RangeCall(vm, GMEM_VM_POPULATE, "GMEM_VM_POPULATE", guest_addr, length);
}

// Frees the pages of a range of a guestmem.
inline void Punch(const Fd& mem, uint64_t offset, uint64_t length) {
  if (fallocate(mem.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length)) != 0) {
    Die("fallocate", errno);
  }
}

inline void SetPolicy(const Fd& vm, uint32_t policy) {
  gmem_vm_set_policy set = {};
  set.size = sizeof(set);
  set.policy = policy;
  if (ioctl(vm.get(), GMEM_VM_SET_POLICY, &set) != 0) Die("GMEM_VM_SET_POLICY", errno);
}

inline gmem_stats Stats(const Fd& device) {
  gmem_stats stats = {};
  stats.size = sizeof(stats);
  if (ioctl(device.get(), GMEM_STATS, &stats) != 0) Die("GMEM_STATS", errno);
  return stats;
}

inline gmem_mem_query QueryMem(const Fd& mem, uint64_t offset, uint64_t length) {
  gmem_mem_query query = {};
  query.size = sizeof(query);
  query.offset = offset;
  query.length = length;
  if (ioctl(mem.get(), GMEM_MEM_QUERY, &query) != 0) Die("GMEM_MEM_QUERY", errno);
  return query;
}

inline std::vector<gmem_binding_info> QueryVm(const Fd& vm) {
  std::vector<gmem_binding_info> bindings(64);
  gmem_vm_query query = {};
  query.size = sizeof(query);
  query.nr_entries = static_cast<uint32_t>(bindings.size());
  query.length = uint64_t{1} << 52;
  query.entries = reinterpret_cast<uintptr_t>(bindings.data());
  query.entry_size = sizeof(gmem_binding_info);
  if (ioctl(vm.get(), GMEM_VM_QUERY, &query) != 0) Die("GMEM_VM_QUERY", errno);
  bindings.resize(query.nr_entries);
  return bindings;
}

// Returns the newest refused access; its seq is 0 if there was none.
inline gmem_fault_info LastFault(const Fd& vm) {
  gmem_fault_info entries[GMEM_NR_FAULTS] = {};
  gmem_vm_faults faults = {};
  faults.size = sizeof(faults);
  faults.nr_entries = GMEM_NR_FAULTS;
  faults.entries = reinterpret_cast<uintptr_t>(entries);
  faults.entry_size = sizeof(gmem_fault_info);
  if (ioctl(vm.get(), GMEM_VM_FAULTS, &faults) != 0) Die("GMEM_VM_FAULTS", errno);
  return faults.nr_entries ? entries[faults.nr_entries - 1] : gmem_fault_info{};
}

// Maps @size bytes at @offset; at @address if that isn't null.
inline uint8_t* Map(int fd, uint64_t offset, uint64_t size, void* address = nullptr) {
  void* memory = mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | (address ? MAP_FIXED : 0),
                      fd, static_cast<off_t>(offset));
  if (memory == MAP_FAILED) Die("mmap", errno);
  return static_cast<uint8_t*>(memory);
}

}  // namespace gmem_tools

#endif  // GMEM_TOOLS_GMEM_CALLS_H_
