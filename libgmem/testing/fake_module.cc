// SPDX-License-Identifier: Apache-2.0
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
  return 0;
}

int FakeModule::CreateVm(const gmem_vm_create& create) {
  const size_t known = abi_version_ < 2 ? offsetof(gmem_vm_create, name) : sizeof(gmem_vm_create);
  if (const int error = CheckTail(create, known); error != 0) return error;
  last_vm_ = create;
  const uint32_t known_flags = abi_version_ < 2 ? 0U : uint32_t{GMEM_VM_LIVE};
  if ((create.flags & ~known_flags) != 0) return -EINVAL;
  const bool is_live = (create.flags & GMEM_VM_LIVE) != 0;
  if (is_live && (features_ & GMEM_FEATURE_LIVE) == 0) return -EOPNOTSUPP;
  // Windows can be mapped wherever the VM has addresses.
  return NewFile(uint64_t{1} << kGuestAddressBits, {.kind = Kind::kVm, .is_live = is_live})
      .release();
}

int FakeModule::CreateMemory(const gmem_create_mem& create) {
  last_memory_ = create;
  if (abi_version_ < 2 && create.name[0] != 0) return -EINVAL;
  const bool has_huge_pages = (create.flags & GMEM_MEM_ALLOW_HUGEPAGE) != 0;
  return NewFile(create.size, {.kind = Kind::kMemory, .has_huge_pages = has_huge_pages}).release();
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
  switch (object.kind) {
    case Kind::kDevice:
      if (request == GMEM_INFO) return Info(static_cast<gmem_info*>(argument));
      if (request == GMEM_VM_CREATE) return CreateVm(*static_cast<gmem_vm_create*>(argument));
      if (request == GMEM_CREATE_MEM) {
        return CreateMemory(*static_cast<gmem_create_mem*>(argument));
      }
      return -ENOTTY;
    case Kind::kVm:
      if (request == GMEM_VM_MAP_MEM) return Map(object, *static_cast<gmem_map_mem*>(argument));
      if (request == GMEM_VM_UNMAP) return Unmap(object, static_cast<gmem_vm_range*>(argument));
      if (request == GMEM_VM_QUERY) return Query(object, static_cast<gmem_vm_query*>(argument));
      if (request == GMEM_VM_WINDOW) {
        return OpenWindow(object, static_cast<gmem_vm_window*>(argument));
      }
      return -ENOTTY;
    case Kind::kMemory:
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
