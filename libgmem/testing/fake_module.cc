// SPDX-License-Identifier: MIT OR Apache-2.0
#include "testing/fake_module.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "gmem/device.h"
#include "gmem/unique_fd.h"

namespace gmem::doubles {
namespace {

constexpr unsigned int kMiscMajor = 10;
constexpr uint64_t kPage = 4096, kHugePage = 2 << 20;
constexpr int kGuestAddressBits = 40;

// As copy_struct_from_user(): a known part of @known bytes, and zeroes behind it.
template <typename Struct>
int CheckTail(const Struct& arg, size_t known) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&arg);
  const bool is_known =
      std::all_of(bytes + known, bytes + sizeof(arg), [](uint8_t b) { return b == 0; });
  return is_known ? 0 : -E2BIG;
}

// For a call whose struct got @entry_size with ABI 4.
template <typename Struct>
int CheckEntrySize(const Struct& arg, uint32_t abi_version) {
  if (arg.size <= offsetof(Struct, entry_size)) return 0;
  if (abi_version < 4) return arg.entry_size == 0 ? 0 : -E2BIG;
  return arg.entry_size == 0 ? -EINVAL : 0;
}

bool IsInVm(uint64_t start, uint64_t length) {
  constexpr uint64_t kEnd = uint64_t{1} << kGuestAddressBits;
  return length > 0 && start % kPage == 0 && length % kPage == 0 && start < kEnd &&
         length <= kEnd - start;
}

}  // namespace

UniqueFd FakeModule::NewFile(uint64_t size, const Object& object) {
  UniqueFd fd(memfd_create("gmem", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  struct stat stat = {};
  EXPECT_EQ(RealFstat(fd.get(), &stat), 0);
  objects_[stat.st_ino] = object;
  memfds_ = stat.st_dev;
  return fd;
}

const FakeModule::Object* FakeModule::Find(const struct stat& stat) const {
  const auto found = objects_.find(stat.st_ino);
  return stat.st_dev == memfds_ && found != objects_.end() ? &found->second : nullptr;
}

Device FakeModule::OpenDevice() {
  UniqueFd fd;
  {
    const std::lock_guard lock(mutex_);
    fd = NewFile(0, {.kind = Kind::kDevice});
  }
  auto device = Device::Adopt(std::move(fd));
  EXPECT_TRUE(device.ok()) << device.status();
  return *std::move(device);
}

std::map<uint64_t, FakeModule::View> FakeModule::views() const {
  const std::lock_guard lock(mutex_);
  return views_;
}

int FakeModule::CountCalls(unsigned int request) const {
  const std::lock_guard lock(mutex_);
  const auto found = calls_.find(request);
  return found == calls_.end() ? 0 : found->second;
}

int FakeModule::Info(gmem_info* info) const {
  if (info->provider_index != 0) return -ENOENT;
  info->abi_version = abi_version_;
  info->nr_providers = 1;
  info->features = features_;
  info->page_size = kPage;
  info->huge_page_size = (features_ & GMEM_FEATURE_HUGEPAGE) != 0 ? kHugePage : 0;
  info->max_guest_addr_bits = kGuestAddressBits;
  info->provider_flags = GMEM_PROVIDER_SHARE_MULTI | GMEM_PROVIDER_WINDOW;
  std::memcpy(info->provider_name, "window", sizeof("window"));
  info->max_bindings = abi_version_ < 2 ? 0 : 1000000;
  info->max_user_bindings = abi_version_ < 4 ? 0 : 4000000;
  info->user_bindings = abi_version_ < 4 ? 0 : 12;
  return 0;
}

int FakeModule::CreateVm(const gmem_vm_create& create) {
  const size_t known = abi_version_ < 2 ? offsetof(gmem_vm_create, name) : sizeof(gmem_vm_create);
  if (const int error = CheckTail(create, known); error != 0) return error;
  last_vm_ = create;
  constexpr uint32_t kWaits = GMEM_VM_WAIT | GMEM_VM_WAIT_SIGNALS;
  uint32_t known_flags = abi_version_ < 2 ? 0U : uint32_t{GMEM_VM_LIVE};
  if (abi_version_ >= 4) known_flags |= kWaits;
  if ((create.flags & ~known_flags) != 0) return -EINVAL;
  const bool is_live = (create.flags & GMEM_VM_LIVE) != 0;
  if (is_live && (features_ & GMEM_FEATURE_LIVE) == 0) return -EOPNOTSUPP;
  const bool waits = (create.flags & kWaits) != 0;
  if (waits && !is_live) return -EOPNOTSUPP;
  // Windows can be mapped wherever the VM has addresses.
  return NewFile(uint64_t{1} << kGuestAddressBits, {.kind = Kind::kVm, .is_live = is_live, .waits = waits})
      .release();
}

int FakeModule::CreateMemory(const gmem_create_mem& create) {
  last_memory_ = create;
  if (abi_version_ < 2 && create.name[0] != 0) return -EINVAL;
  const bool has_huge_pages = (create.flags & GMEM_MEM_ALLOW_HUGEPAGE) != 0;
  return NewFile(create.size, {.kind = Kind::kMemory, .has_huge_pages = has_huge_pages}).release();
}

int FakeModule::CreateMemoryWithPolicy(const gmem_mem_create& create) {
  const size_t known =
      abi_version_ < 4 ? offsetof(gmem_mem_create, cgroup_fd) : sizeof(gmem_mem_create);
  if (const int error = CheckTail(create, known); error != 0) return error;
  last_policy_ = {.mode = create.numa_mode};
  if (create.numa_mode != 0 && (features_ & GMEM_FEATURE_NUMA) == 0) return -EOPNOTSUPP;
  if ((create.flags & GMEM_MEM_CGROUP) != 0) {
    if ((features_ & GMEM_FEATURE_CGROUP) == 0) return -EOPNOTSUPP;
    last_policy_.cgroup_fd = create.cgroup_fd;
  }
  if (create.nr_nodes != 0) {
    std::memcpy(&last_policy_.first_nodes, reinterpret_cast<const void*>(create.nodes),
                sizeof(last_policy_.first_nodes));
  }
  gmem_create_mem memory = {};
  memory.flags = create.flags & ~uint32_t{GMEM_MEM_CGROUP};
  memory.size = create.length;
  std::memcpy(memory.name, create.name, sizeof(memory.name));
  return CreateMemory(memory);
}

int FakeModule::Map(Object& vm, const gmem_map_mem& map) {
  if (!IsInVm(map.guest_addr, map.size)) return -EINVAL;
  struct stat stat = {};
  if (RealFstat(static_cast<int>(map.guest_mem_fd), &stat) != 0) return -EBADF;
  const Object* const memory = Find(stat);
  if (memory == nullptr || memory->kind != Kind::kMemory) return -EINVAL;
  if (vm.is_live && memory->has_huge_pages && (features_ & GMEM_FEATURE_LIVE_HUGE) == 0) {
    return -EOPNOTSUPP;
  }
  if ((map.flags & GMEM_MAP_UNMAP) != 0) {
    const auto found = vm.bindings.find(map.guest_addr);
    if (found == vm.bindings.end() || found->second.length != map.size) return -ENOENT;
    vm.bindings.erase(found);
    return 0;
  }
  for (const auto& [start, binding] : vm.bindings) {
    if (start < map.guest_addr + map.size && map.guest_addr < start + binding.length) {
      return -EEXIST;
    }
  }
  gmem_binding_info binding = {};
  binding.guest_addr = map.guest_addr;
  binding.length = map.size;
  binding.offset = map.offset;
  binding.mem_id = stat.st_ino;
  binding.flags = map.flags;
  vm.bindings[map.guest_addr] = binding;
  return 0;
}

// Joins nothing.
int FakeModule::NewMap(Object& vm, const gmem_vm_map& map) {
  last_map_ = map;
  gmem_map_mem mem = {};
  mem.guest_addr = map.guest_addr;
  mem.flags = map.flags & ~uint32_t{GMEM_MAP_POLICY | GMEM_MAP_JOIN};
  mem.guest_mem_fd = static_cast<uint32_t>(map.mem_fd);
  mem.offset = map.offset;
  mem.size = map.length;
  const int error = Map(vm, mem);
  if (error == 0 && (map.flags & GMEM_MAP_POLICY) != 0) {
    vm.bindings[map.guest_addr].flags |= GMEM_MAP_POLICY;
    vm.bindings[map.guest_addr].policy = map.policy;
  }
  return error;
}

// Changes whole bindings only, which is enough for tests.
int FakeModule::Change(Object& vm, const gmem_vm_change& change) {
  last_change_ = change;
  if (change.flags == 0 || !IsInVm(change.guest_addr, change.length)) return -EINVAL;
  const auto found = vm.bindings.find(change.guest_addr);
  if (found == vm.bindings.end() || found->second.length != change.length) return -ENOENT;
  uint32_t& flags = found->second.flags;
  for (const uint32_t mask : {uint32_t{GMEM_MAP_ACCESS_MASK}, uint32_t{GMEM_MAP_ALLOW_RWX}}) {
    if ((change.flags & mask) != 0) flags = (flags & ~mask) | (change.flags & mask);
  }
  return 0;
}

// Removes whole bindings only, which is enough for tests.
int FakeModule::Unmap(Object& vm, gmem_vm_range* range) {
  if (!IsInVm(range->guest_addr, range->length)) return -EINVAL;
  for (auto it = vm.bindings.lower_bound(range->guest_addr);
       it != vm.bindings.end() && it->first < range->guest_addr + range->length;) {
    range->nr_pages += it->second.length / kPage;
    it = vm.bindings.erase(it);
  }
  return 0;
}

int FakeModule::Query(const Object& vm, gmem_vm_query* query) const {
  if (const int error = CheckEntrySize(*query, abi_version_); error != 0) return error;
  if (!IsInVm(query->guest_addr, query->length)) return -EINVAL;
  auto* const entries = reinterpret_cast<gmem_binding_info*>(query->entries);
  const uint64_t end = query->guest_addr + query->length;
  uint32_t count = 0;
  for (const auto& [start, binding] : vm.bindings) {
    if (start >= end || start + binding.length <= query->guest_addr) continue;
    if (count == query->nr_entries) break;
    entries[count++] = binding;
  }
  query->nr_entries = count;
  query->length = 0;
  return 0;
}

int FakeModule::Faults(gmem_vm_faults* faults) const {
  if (const int error = CheckEntrySize(*faults, abi_version_); error != 0) return error;
  auto* const rows = reinterpret_cast<uint8_t*>(faults->entries);
  const bool has_size = faults->size > offsetof(gmem_vm_faults, entry_size);
  const size_t row_size = has_size ? faults->entry_size : offsetof(gmem_fault_info, pid);
  uint32_t count = 0;
  for (const gmem_fault_info& fault : faults_) {
    if (fault.seq <= faults->seq || count == faults->nr_entries) continue;
    std::memcpy(rows + row_size * count++, &fault, std::min(row_size, sizeof(fault)));
  }
  if (count != 0) faults->seq = faults_.back().seq;
  faults->nr_entries = count;
  return 0;
}

int FakeModule::Runs(gmem_mem_runs* call) const {
  if (abi_version_ < 4) return -ENOTTY;
  if (call->length == 0 || call->offset % kPage != 0 || call->length % kPage != 0) return -EINVAL;
  auto* const entries = reinterpret_cast<gmem_mem_run*>(call->entries);
  const uint64_t end = call->offset + call->length;
  uint32_t count = 0;
  for (const gmem_mem_run& run : runs_) {
    if (run.offset < call->offset) continue;
    if (count == std::min(call->nr_entries, runs_room_)) break;
    entries[count++] = run;
  }
  call->nr_entries = count;
  call->offset = count == 0 ? end : entries[count - 1].offset + entries[count - 1].length;
  call->length = end - call->offset;
  return 0;
}

int FakeModule::OpenWindow(const Object& vm, gmem_vm_window* window) {
  if (!vm.is_live) return -EOPNOTSUPP;
  if (!IsInVm(window->guest_addr, window->length)) return -EINVAL;
  UniqueFd fd = NewFile(window->length, {.kind = Kind::kWindow});
  struct stat stat = {};
  RealFstat(fd.get(), &stat);
  window->id = stat.st_ino;
  last_window_ = *window;
  return fd.release();
}

int FakeModule::Waiters(gmem_vm_waiters* waiters) {
  auto* const entries = reinterpret_cast<gmem_waiter_info*>(waiters->entries);
  const bool all = (waiters->flags & GMEM_WAITERS_ALL) != 0;
  uint32_t count = 0;
  for (size_t i = all ? 0 : nr_taken_; i < requests_.size() && count < waiters->nr_entries; ++i) {
    if (requests_[i].guest_addr < waiters->guest_addr) continue;
    entries[count++] = requests_[i];
  }
  if (!all) nr_taken_ += count;
  if (all && count > 0) waiters->guest_addr = entries[count - 1].guest_addr + kPage;
  waiters->nr_entries = count;
  return 0;
}

int FakeModule::CreateView(ino_t memory, gmem_mem_view* view) {
  if (view->length == 0 || view->offset % kPage != 0 || view->length % kPage != 0) return -EINVAL;
  UniqueFd fd = NewFile(view->length, {.kind = Kind::kView});
  view->id = views_.size() + 1;
  views_[view->id] = {.memory = memory, .create = *view};
  return fd.release();
}

int FakeModule::Revoke(ino_t memory, gmem_mem_revoke* revoke) {
  const auto found = views_.find(revoke->id);
  if (found == views_.end() || found->second.memory != memory || found->second.is_revoked) {
    return -ENOENT;
  }
  found->second.is_revoked = true;
  revoke->pinned = pinned_;
  return 0;
}

int FakeModule::Dispatch(ino_t inode, unsigned int request, void* argument) {
  Object& object = objects_[inode];
  const bool is_new =
      request == GMEM_VM_WINDOW || request == GMEM_MEM_VIEW || request == GMEM_MEM_REVOKE;
  if (is_new && abi_version_ < 2) return -ENOTTY;
  if (request == GMEM_MEM_CREATE && abi_version_ < 3) return -ENOTTY;
  const bool is_wait = request == GMEM_VM_WAITERS || request == GMEM_VM_SET_ABSENT;
  if (is_wait && abi_version_ < 4) return -ENOTTY;
  if (is_wait && !object.waits) return -EOPNOTSUPP;
  if ((request == GMEM_VM_CHANGE || request == GMEM_VM_MAP) && abi_version_ < 4) return -ENOTTY;
  switch (object.kind) {
    case Kind::kDevice:
      if (request == GMEM_INFO) return Info(static_cast<gmem_info*>(argument));
      if (request == GMEM_VM_CREATE) return CreateVm(*static_cast<gmem_vm_create*>(argument));
      if (request == GMEM_CREATE_MEM) {
        return CreateMemory(*static_cast<gmem_create_mem*>(argument));
      }
      if (request == GMEM_MEM_CREATE) {
        return CreateMemoryWithPolicy(*static_cast<gmem_mem_create*>(argument));
      }
      return -ENOTTY;
    case Kind::kVm:
      if (request == GMEM_VM_MAP_MEM) return Map(object, *static_cast<gmem_map_mem*>(argument));
      if (request == GMEM_VM_MAP) return NewMap(object, *static_cast<gmem_vm_map*>(argument));
      if (request == GMEM_VM_CHANGE) return Change(object, *static_cast<gmem_vm_change*>(argument));
      if (request == GMEM_VM_UNMAP) return Unmap(object, static_cast<gmem_vm_range*>(argument));
      if (request == GMEM_VM_QUERY) return Query(object, static_cast<gmem_vm_query*>(argument));
      if (request == GMEM_VM_FAULTS) return Faults(static_cast<gmem_vm_faults*>(argument));
      if (request == GMEM_VM_WINDOW) {
        return OpenWindow(object, static_cast<gmem_vm_window*>(argument));
      }
      if (request == GMEM_VM_WAITERS) return Waiters(static_cast<gmem_vm_waiters*>(argument));
      if (request == GMEM_VM_SET_ABSENT) {
        last_absent_ = *static_cast<gmem_vm_set_absent*>(argument);
        return IsInVm(last_absent_.guest_addr, last_absent_.length) ? 0 : -EINVAL;
      }
      return -ENOTTY;
    case Kind::kMemory:
      if (request == GMEM_MEM_RUNS) return Runs(static_cast<gmem_mem_runs*>(argument));
      if (request == GMEM_MEM_VIEW) return CreateView(inode, static_cast<gmem_mem_view*>(argument));
      if (request == GMEM_MEM_REVOKE) return Revoke(inode, static_cast<gmem_mem_revoke*>(argument));
      return -ENOTTY;
    case Kind::kView:
    case Kind::kWindow:
      return -ENOTTY;
  }
  return -ENOTTY;
}

std::optional<int> FakeModule::Ioctl(int fd, unsigned long request, void* argument) {
  const auto call = static_cast<unsigned int>(request);
  struct stat stat = {};
  if (RealFstat(fd, &stat) != 0) return std::nullopt;
  {
    const std::lock_guard lock(mutex_);
    if (Find(stat) == nullptr) return std::nullopt;
    ++calls_[call];
  }
  if (const auto hook = hooks_.find(call); hook != hooks_.end() && hook->second) hook->second();
  const std::lock_guard lock(mutex_);
  if (const auto failure = failures_.find(call); failure != failures_.end()) {
    const int error = failure->second;
    failures_.erase(failure);
    return -error;
  }
  return Dispatch(stat.st_ino, call, argument);
}

void FakeModule::ChangeStat(int /*fd*/, struct stat& stat) const {
  const std::lock_guard lock(mutex_);
  const Object* const object = Find(stat);
  if (object == nullptr) return;
  if (object->kind == Kind::kDevice) {
    stat.st_mode = S_IFCHR | 0660;
    stat.st_rdev = makedev(kMiscMajor, 0);
  }
  stat.st_blksize = object->has_huge_pages ? kHugePage : kPage;
}

void FakeModule::ChangeStatfs(int fd, struct statfs& fs) const {
  struct stat stat = {};
  if (RealFstat(fd, &stat) != 0) return;
  const std::lock_guard lock(mutex_);
  const Object* const object = Find(stat);
  if (object != nullptr && object->kind == Kind::kMemory) fs.f_type = GMEM_MEM_MAGIC;
}

}  // namespace gmem::doubles
