// SPDX-License-Identifier: MIT OR Apache-2.0
// The calls of /dev/gmem without gmem.ko, for tests. Not installed.
#ifndef GMEM_TESTING_FAKE_MODULE_H_
#define GMEM_TESTING_FAKE_MODULE_H_

#include <linux/gmem.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmem/device.h"
#include "gmem/unique_fd.h"
#include "testing/system_calls.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::doubles {

// Answers the calls on the descriptors of its objects, and on duplicates of them. All objects are
// memfds: a test can map them, but they share no memory.
//
// Thread-safe, except construction, destruction and the setters.
class FakeModule final : private SystemCalls {
 public:
  // Acts as a module of ABI @abi_version with one provider, "window". @features: bits of enum
  // gmem_features.
  static constexpr uint64_t kAllFeatures = GMEM_FEATURE_HUGEPAGE | GMEM_FEATURE_LIVE |
                                           GMEM_FEATURE_LIVE_HUGE | GMEM_FEATURE_WINDOW |
                                           GMEM_FEATURE_VIEW | GMEM_FEATURE_NAME |
                                           GMEM_FEATURE_NUMA | GMEM_FEATURE_WAIT |
                                           GMEM_FEATURE_CHANGE | GMEM_FEATURE_MAP |
                                           GMEM_FEATURE_RUNS | GMEM_FEATURE_CGROUP;
  explicit FakeModule(uint32_t abi_version = 4, uint64_t features = kAllFeatures)
      : abi_version_(abi_version), features_(features) {}

  Device OpenDevice();

  // Makes the next call of @request fail with @error.
  void FailNext(unsigned int request, int error) { failures_[request] = error; }
  // The program can't move mappings, as at its limits. 0: it can.
  void FailMoves(int error) { move_error_ = error; }
  // The program can't change the access of mappings.
  void FailProtections(int error) { protection_error_ = error; }
  // Each call of @request runs @hook first, before it changes anything.
  void SetHook(unsigned int request, std::function<void()> hook) { hooks_[request] = hook; }
  // GMEM_MEM_RUNS reports @runs, whatever its range is, and at most @room of them in a call.
  void SetRuns(std::vector<gmem_mem_run> runs, uint32_t room) {
    runs_ = std::move(runs);
    runs_room_ = room;
  }
  // Reported by GMEM_VM_FAULTS.
  void SetFaults(std::vector<gmem_fault_info> faults) { faults_ = std::move(faults); }
  // Reported by the next GMEM_MEM_REVOKE calls.
  void SetPinned(uint64_t pages) { pinned_ = pages; }

  struct View {
    ino_t memory;
    gmem_mem_view create;
    bool is_revoked = false;
  };

  const gmem_vm_create& last_vm() const { return last_vm_; }
  const gmem_create_mem& last_memory() const { return last_memory_; }
  struct Policy {
    uint32_t mode = 0;
    // One bit for each of the first 64 nodes.
    uint64_t first_nodes = 0;
    // -1: none.
    int cgroup_fd = -1;
  };
  const Policy& last_policy() const { return last_policy_; }
  const gmem_vm_window& last_window() const { return last_window_; }
  const gmem_vm_map& last_map() const { return last_map_; }
  const gmem_vm_change& last_change() const { return last_change_; }
  // By number, in order of creation.
  std::map<uint64_t, View> views() const;
  // Accesses wait for these pages, in every VM.
  void SetRequests(std::vector<gmem_waiter_info> requests) { requests_ = std::move(requests); }
  const gmem_vm_set_absent& last_absent() const { return last_absent_; }
  // The number of calls of @request so far.
  int CountCalls(unsigned int request) const;

 private:
  std::optional<int> Ioctl(int fd, unsigned long request, void* argument) override;
  void ChangeStat(int fd, struct stat& stat) const override;
  void ChangeStatfs(int fd, struct statfs& fs) const override;
  int MremapError() const override { return move_error_; }
  int MprotectError() const override { return protection_error_; }

  enum class Kind { kDevice, kVm, kMemory, kView, kWindow };
  struct Object {
    Kind kind;
    bool is_live = false;
    bool has_huge_pages = false;
    bool waits = false;
    // The bindings of a VM, by guest address.
    std::map<uint64_t, gmem_binding_info> bindings = {};
  };

  UniqueFd NewFile(uint64_t size, const Object& object);
  // Null if the file is no object.
  const Object* Find(const struct stat& stat) const;
  int Dispatch(ino_t inode, unsigned int request, void* argument);
  int Info(gmem_info* info) const;
  int CreateVm(const gmem_vm_create& create);
  int CreateMemory(const gmem_create_mem& create);
  int CreateMemoryWithPolicy(const gmem_mem_create& create);
  int Map(Object& vm, const gmem_map_mem& map);
  int NewMap(Object& vm, const gmem_vm_map& map);
  int Change(Object& vm, const gmem_vm_change& change);
  int Unmap(Object& vm, gmem_vm_range* range);
  int Query(const Object& vm, gmem_vm_query* query) const;
  int Faults(gmem_vm_faults* faults) const;
  int Runs(gmem_mem_runs* call) const;
  int OpenWindow(const Object& vm, gmem_vm_window* window);
  int Waiters(gmem_vm_waiters* waiters);
  int CreateView(ino_t memory, gmem_mem_view* view);
  int Revoke(ino_t memory, gmem_mem_revoke* revoke);

  const uint32_t abi_version_;
  const uint64_t features_;
  std::map<unsigned int, int> failures_;
  std::map<unsigned int, std::function<void()>> hooks_;
  uint64_t pinned_ = 0;
  std::vector<gmem_mem_run> runs_;
  uint32_t runs_room_ = 0;
  std::vector<gmem_fault_info> faults_;
  int move_error_ = 0;
  int protection_error_ = 0;

  mutable std::mutex mutex_;
  // The file system of all objects.
  dev_t memfds_ = 0;
  std::map<ino_t, Object> objects_;
  std::map<uint64_t, View> views_;
  std::map<unsigned int, int> calls_;
  gmem_vm_create last_vm_ = {};
  gmem_create_mem last_memory_ = {};
  Policy last_policy_ = {};
  gmem_vm_window last_window_ = {};
  gmem_vm_set_absent last_absent_ = {};
  // In ascending order; the first @nr_taken_ have been taken.
  std::vector<gmem_waiter_info> requests_;
  size_t nr_taken_ = 0;
  gmem_vm_map last_map_ = {};
  gmem_vm_change last_change_ = {};
};

}  // namespace gmem::doubles
#pragma GCC visibility pop

#endif  // GMEM_TESTING_FAKE_MODULE_H_
