// SPDX-License-Identifier: Apache-2.0
// A Linux guest whose memory is gmem's: one guestmem, bound to a VM, before the guest
// through one window and one memslot. What is bound may change at any time; what the
// guest touches and isn't there is bound on demand.
#ifndef GMEM_TOOLS_MINIVMM_GUEST_H_
#define GMEM_TOOLS_MINIVMM_GUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "console.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gmem/window.h"
#include "machine.h"

namespace minivmm {

class Guest {
 public:
  struct Options {
    std::string kernel, initramfs;  // paths
    std::string command_line;
    // Linux's RAM, lent from the start, from guest address 0 on. Behind it lies the
    // pool, of which Linux knows nothing and nothing is bound yet.
    gmem::ByteSize ram = {}, pool = {};
    // How long the guest runs at most: who waits for it waits no longer.
    absl::Duration time_limit = absl::InfiniteDuration();
  };

  // Loads Linux, but doesn't start it. @console and @device must outlive the guest.
  static absl::StatusOr<std::unique_ptr<Guest>> Create(const gmem::Device& device,
                                                       const Options& options, Console* console);
  // Stops the guest if it runs.
  ~Guest();

  // Starts the CPU's thread, which ends when the guest powers off.
  void Start();
  // Waits for that. OK if the guest powered off by itself.
  absl::Status Wait();

  // Guest address N is byte N of the guestmem, for RAM and pool.
  const gmem::GuestMemory& memory() const { return memory_; }
  const gmem::Vm& vm() const { return vm_; }
  // The guestmem as the host sees it.
  const gmem::Mapping& host() const { return host_; }
  gmem::GuestAddress pool() const { return gmem::GuestAddress(ram_.value()); }

  // While the guest runs: bind or unbind a range and bring the window up to date.
  absl::Status Plug(gmem::GuestRange range, gmem::MapMode mode);
  absl::StatusOr<uint64_t> Unplug(gmem::GuestRange range);

  // The first access since the last call that was refused and then bound on demand;
  // waits for it.
  absl::StatusOr<gmem::Fault> WaitForDemand(absl::Duration timeout);

  // Sends a line to the guest's program and returns what it answers.
  absl::StatusOr<std::string> Command(const std::string& line);

 private:
  Guest(gmem::GuestMemory memory, gmem::Vm vm, gmem::Window window, gmem::Mapping host,
        gmem::ByteSize ram, Console* console);
  absl::Status Load(const Options& options);
  absl::Status OnRefusedAccess();
  absl::Status PlugLocked(gmem::GuestRange range, gmem::MapMode mode)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  Console* const console_;
  const gmem::ByteSize ram_;
  const gmem::GuestMemory memory_;
  const gmem::Vm vm_;
  const gmem::Window window_;
  const gmem::Mapping host_;
  // After the window: KVM uses it.
  std::unique_ptr<Machine> machine_;
  std::thread cpu_;
  absl::Status ended_ = absl::UnknownError("the guest wasn't started");

  // A change of a binding and the window's that follows belong together.
  absl::Mutex lock_;
  uint64_t faults_seen_ ABSL_GUARDED_BY(lock_) = 0;
  std::optional<gmem::Fault> demand_ ABSL_GUARDED_BY(lock_);
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_GUEST_H_
