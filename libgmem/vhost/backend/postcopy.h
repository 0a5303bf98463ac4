// SPDX-License-Identifier: MIT OR Apache-2.0
// Guest memory that arrives after the guest has moved. Not installed.
#ifndef GMEM_VHOST_BACKEND_POSTCOPY_H_
#define GMEM_VHOST_BACKEND_POSTCOPY_H_

#include "absl/status/status.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::backend_internal {

// The back-end's side of a postcopy migration: a userfaultfd, with which the front-end serves the
// faults of this process, and the handshake by which the front-end learns the addresses of the
// regions in this process. The faults of a region may be registered only when the front-end knows
// the region's addresses: before that, nobody would serve them.
class Postcopy {
 public:
  Postcopy() = default;
  Postcopy(const Postcopy&) = delete;
  Postcopy& operator=(const Postcopy&) = delete;

  // Makes a userfaultfd and returns it; this object owns it. -1 if the host doesn't allow that.
  // @map: the regions, which may be registered with an older one.
  int Advise(const GuestMemoryMap& map);
  // From now on the front-end wants to know where regions are. InvalidArgument (EINVAL) before a
  // successful Advise().
  absl::Status Listen();
  // From here on, the kernel serves the faults of all regions.
  void End(const GuestMemoryMap& map);
  bool is_listening() const { return is_listening_; }

  // Was a table answered with addresses? Then the next SET_MEM_TABLE is the acknowledgement.
  bool is_table_unacknowledged() const { return is_table_unacknowledged_; }
  void ExpectAcknowledgement() { is_table_unacknowledged_ = true; }
  // InvalidArgument (EINVAL) if @table isn't an acknowledgement.
  absl::Status AcknowledgeTable(const MemoryTable& table, const GuestMemoryMap& map);
  // Lets the front-end serve the faults of all regions, those that are registered included.
  absl::Status Register(const GuestMemoryMap& map);
  // May a touch of guest memory wait for the front-end?
  bool serves_faults() const { return serves_faults_; }

  // Replaces the region's user address by its address in this process.
  static void PutAddress(const GuestMemoryMap& map, MemoryRegion& region);

 private:
  // Regions stay where they are when the next table has them, too. And the front-end has the
  // userfaultfd as well, so that its end isn't the end of their registration.
  void Unregister(const GuestMemoryMap& map);

  UniqueFd faults_;
  bool is_listening_ = false;
  bool serves_faults_ = false;
  bool is_table_unacknowledged_ = false;
};

}  // namespace gmem::vhost::backend_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_BACKEND_POSTCOPY_H_
