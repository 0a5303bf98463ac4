// SPDX-License-Identifier: MIT OR Apache-2.0
// A fixture for tests that share guest memory. Not installed.
#ifndef GMEM_VHOST_TESTING_REGIONS_H_
#define GMEM_VHOST_TESTING_REGIONS_H_

#include <cstdint>
#include <vector>

#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/memory_table.h"
#include "vhost/testing/frontend.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::doubles {

// Numbered regions of one page each, of one file.
class RegionsTest : public FrontendTest {
 protected:
  GuestRegion Region(uint64_t n) const {
    return {.guest_address = GuestAddress(n << 20),
            .size = KiB(4),
            .user_address = 0x7f0000000000 + (n << 20),
            .fd = file_.get(),
            .offset = ByteOffset(n * 4096)};
  }
  std::vector<GuestRegion> Regions(const std::vector<uint64_t>& numbers) const {
    std::vector<GuestRegion> regions;
    regions.reserve(numbers.size());
    for (const uint64_t n : numbers) regions.push_back(Region(n));
    return regions;
  }

  const UniqueFd file_ = MakeFile(MiB(4));
};

}  // namespace gmem::vhost::doubles
#pragma GCC visibility pop

#endif  // GMEM_VHOST_TESTING_REGIONS_H_
