// SPDX-License-Identifier: MIT OR Apache-2.0
// The memory of one guest, and the calls that change it.
#ifndef GMEM_TOOLS_BROKER_GUEST_H_
#define GMEM_TOOLS_BROKER_GUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"
#include "restore.h"

namespace broker {

// A VM with live windows, and guest memory of the same size. Byte N of the memory is bound at guest
// address N, or nowhere.
class Guest {
 public:
  struct Options {
    gmem::ByteSize size;
    bool huge_pages = false;
    gmem::ReclaimPolicy policy = gmem::ReclaimPolicy::kAllow;
    // The holder of the window descriptor may give memory back.
    bool allow_discard = true;
    std::string name;
    // A file that Save() has made. Empty: none.
    std::string restore = {};
    // Bring its memory also where no access waits for it.
    bool prefetch = true;
  };

  // All of the memory is bound, as lent memory; with a file to restore, none is: Restore() binds it.
  static absl::StatusOr<Guest> Create(const Options& options);

  // The window descriptor, which the guest's VMM maps. Call this once.
  gmem::UniqueFd TakeWindow() { return std::move(window_); }

  absl::Status Bind(gmem::GuestRange range, gmem::MapMode mode, bool writable) const;
  // Returns how many pages were bound. The memory keeps its contents, as far as the VM's policy
  // keeps them.
  absl::StatusOr<uint64_t> Unbind(gmem::GuestRange range);
  // Frees the memory of a range. It stays bound, if it is, and reads as zeroes.
  absl::Status Trim(gmem::GuestRange range) const;
  // Takes lent pages back. The guest's next access lends them again. Returns their number.
  absl::StatusOr<uint64_t> Reclaim(gmem::GuestRange range) const;
  // Writes the contents of the memory to a file, which is there as a whole or not at all. The VMM
  // must not run meanwhile. Takes lent pages back, so it needs ReclaimPolicy::kAllow, and it needs
  // all of the memory.
  absl::Status Save(const std::string& path) const;

  // Is memory still missing that a file has?
  bool IsRestoring() const { return restore_ && !restore_->is_complete(); }
  // Brings a part of it, first of all what accesses wait for. Poll fd() for these.
  absl::Status RestoreSome() { return restore_->Work(vm_, memory_, prefetch_); }
  bool IsPrefetching() const { return prefetch_ && IsRestoring(); }
  // From now on, RestoreSome() also brings memory for which no access waits. FailedPrecondition if
  // nothing is restored.
  absl::Status Prefetch();
  int fd() const { return vm_.fd(); }

  // Pages, bindings and refused accesses, a line each.
  absl::StatusOr<std::string> Describe() const;

 private:
  Guest(gmem::GuestMemory memory, gmem::Vm vm, gmem::UniqueFd window)
      : memory_(std::move(memory)), vm_(std::move(vm)), window_(std::move(window)) {}

  gmem::GuestMemory memory_;
  gmem::Vm vm_;
  gmem::UniqueFd window_;
  gmem::ReclaimPolicy policy_ = gmem::ReclaimPolicy::kAllow;
  std::optional<Restore> restore_;
  bool prefetch_ = true;
};

}  // namespace broker

#endif  // GMEM_TOOLS_BROKER_GUEST_H_
