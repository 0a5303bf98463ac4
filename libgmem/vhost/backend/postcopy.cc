// SPDX-License-Identifier: MIT OR Apache-2.0
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

uffdio_range PagesOf(GuestSpan memory) {
  const uint64_t page = HostPageSize().value();
  const uint64_t start = AddressOf(memory) / page * page;
  return {.start = start,
          .len = (AddressOf(memory) + memory.size() + page - 1) / page * page - start};
}

UniqueFd NewUserfaultfd(int flags) {
  return UniqueFd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags)));
}

}  // namespace

int Postcopy::Advise(const GuestMemoryMap& map) {
  Unregister(map);
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

void Postcopy::End(const GuestMemoryMap& map) {
  Unregister(map);
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

absl::Status Postcopy::Register(const GuestMemoryMap& map) {
  for (size_t i = 0; i < map.size(); i++) {
    uffdio_register request = {};
    request.range = PagesOf(map.memory(i));
    request.mode = UFFDIO_REGISTER_MODE_MISSING;
    serves_faults_ = true;
    if (ioctl(faults_.get(), UFFDIO_REGISTER, &request) != 0) {
      return ErrnoError(errno, "can't let the front-end serve a region's faults");
    }
  }
  return absl::OkStatus();
}

void Postcopy::Unregister(const GuestMemoryMap& map) {
  for (size_t i = 0; faults_ && i < map.size(); i++) {
    uffdio_range range = PagesOf(map.memory(i));
    // Does nothing to a region that isn't registered.
    ioctl(faults_.get(), UFFDIO_UNREGISTER, &range);
  }
  faults_.reset();
  serves_faults_ = false;
}

void Postcopy::PutAddress(const GuestMemoryMap& map, MemoryRegion& region) {
  region.user_address = AddressOf(map.FromGuest(region.guest_address, region.size));
}

}  // namespace gmem::vhost::backend_internal
