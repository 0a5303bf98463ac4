// SPDX-License-Identifier: Apache-2.0
#include "vhost/backend/postcopy.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/guest_memory_map.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost::backend_internal {
namespace {

using internal::CheckError;
using internal::ErrnoError;

uint64_t AddressOf(GuestSpan memory) { return reinterpret_cast<uintptr_t>(memory.data()); }

UniqueFd NewUserfaultfd(int flags) {
  return UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags)));
}

}  // namespace

int Postcopy::Advise() {
  faults_ = NewUserfaultfd(0);
  // Without privileges, only faults of user space can be served. This process has no others: the
  // front-end itself fills the memory.
  if (!faults_) faults_ = NewUserfaultfd(UFFD_USER_MODE_ONLY);
  uffdio_api api = {};
  api.api = UFFD_API;
  if (!faults_ || ioctl(faults_.get(), UFFDIO_API, &api) != 0) faults_.reset();
  return faults_.get();
}

absl::Status Postcopy::Listen() {
  if (!faults_) return CheckError(EINVAL, "POSTCOPY_LISTEN before POSTCOPY_ADVISE");
  is_listening_ = true;
  return absl::OkStatus();
}

void Postcopy::End() {
  faults_.reset();
  is_listening_ = is_table_unacknowledged_ = false;
}

absl::Status Postcopy::AcknowledgeTable(const MemoryTable& table, const GuestMemoryMap& map) {
  is_table_unacknowledged_ = false;
  if (table.nr_regions != 0) {
    return CheckError(EINVAL,
                      "SET_MEM_TABLE with regions, where the acknowledgement of the last table is "
                      "due");
  }
  return Register(map);
}

absl::Status Postcopy::Register(const GuestMemoryMap& map) const {
  const uint64_t page = HostPageSize().value();
  for (size_t i = 0; i < map.size(); i++) {
    const GuestSpan memory = map.memory(i);
    uffdio_register request = {};
    request.range.start = AddressOf(memory) / page * page;
    request.range.len =
        (AddressOf(memory) + memory.size() + page - 1) / page * page - request.range.start;
    request.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(faults_.get(), UFFDIO_REGISTER, &request) != 0) {
      return ErrnoError(errno, "can't let the front-end serve a region's faults");
    }
  }
  return absl::OkStatus();
}

void Postcopy::PutAddress(const GuestMemoryMap& map, MemoryRegion& region) {
  region.user_address = AddressOf(map.FromGuest(region.guest_address, region.size));
}

}  // namespace gmem::vhost::backend_internal
