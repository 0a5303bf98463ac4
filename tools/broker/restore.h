// SPDX-License-Identifier: MIT OR Apache-2.0
// Brings the contents of a saved guest's memory, page by page, while the guest runs.
#ifndef GMEM_TOOLS_BROKER_RESTORE_H_
#define GMEM_TOOLS_BROKER_RESTORE_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vm.h"

namespace broker {

// A file with the contents, and the pages that are still missing.
class Restore {
 public:
  // InvalidArgument if the file hasn't @size bytes. @page: of the guest memory.
  static absl::StatusOr<Restore> Open(const std::string& path, gmem::ByteSize size,
                                      gmem::ByteSize page);

  // Brings the pages for which accesses wait, and then, with @prefetch, some others, in random
  // order. A page that can't be read fails from then on.
  absl::Status Work(const gmem::Vm& vm, const gmem::GuestMemory& memory, bool prefetch);
  // Doesn't bring the pages of a range.
  void Skip(gmem::GuestRange range);
  bool is_complete() const { return nr_missing_ == 0; }
  size_t nr_missing() const { return nr_missing_; }
  uint64_t nr_wanted() const { return nr_wanted_; }

 private:
  Restore(gmem::UniqueFd file, size_t nr_pages, gmem::ByteSize page);

  absl::Status Bring(const gmem::Vm& vm, const gmem::GuestMemory& memory, size_t number);
  // The page is missing no longer. False if it wasn't.
  bool TakeMissing(size_t number);

  gmem::UniqueFd file_;
  gmem::ByteSize page_;
  // The numbers of all pages, in random order. Those before next_ have been looked at.
  std::vector<uint32_t> order_;
  size_t next_ = 0;
  std::vector<bool> is_there_;
  size_t nr_missing_;
  std::vector<uint8_t> buffer_;
  // How many pages somebody has waited for.
  uint64_t nr_wanted_ = 0;
};

}  // namespace broker

#endif  // GMEM_TOOLS_BROKER_RESTORE_H_
