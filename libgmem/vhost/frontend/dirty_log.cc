// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/dirty_log.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "gmem/mapping.h"
#include "gmem/types.h"
#include "gmem/unique_fd.h"
#include "gmem/vhost/protocol.h"

namespace gmem::vhost {
namespace {

using internal::ErrnoError;

// The log consists of bytes, the lowest bit first; ReadAndClear() reads it in words.
using Word = uint64_t;
constexpr uint64_t kPagesPerWord = 64;
static_assert(std::endian::native == std::endian::little);
static_assert(std::atomic_ref<Word>::is_always_lock_free);

// Pages from @first up to, but not including, @end.
struct Run {
  uint64_t first = 0;
  uint64_t end = 0;

  // Calls @visit for the part of the run below the address @limit, if there is one.
  void Report(uint64_t limit, absl::FunctionRef<void(GuestRange)> visit) const {
    const uint64_t start = first * kLogPageSize;
    const uint64_t stop = std::min(end * kLogPageSize, limit);
    if (start < stop) visit({GuestAddress(start), ByteSize(stop - start)});
  }
};

}  // namespace

absl::StatusOr<DirtyLog> DirtyLog::Create(GuestAddress end) {
  if (end == GuestAddress(0) || end > kMaxEnd) {
    return internal::CheckError(EINVAL, absl::StrCat("no log for guest memory up to ",
                                                     ToString(end), ": 1 to ", ToString(kMaxEnd)));
  }
  const uint64_t words = (end.value() - 1) / kLogPageSize / kPagesPerWord + 1;
  const uint64_t mask = HostPageSize().value() - 1;
  const ByteSize size((words * sizeof(Word) + mask) & ~mask);

  UniqueFd fd(memfd_create("vhost-log", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return ErrnoError(errno, "can't make a file for a log");
  // Seal the file: a back-end that shortened the file would make ReadAndClear() fault.
  if (ftruncate(fd.get(), static_cast<off_t>(size.value())) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return ErrnoError(errno, absl::StrCat("can't make a log of ", ToString(size)));
  }
  GMEM_ASSIGN_OR_RETURN(Mapping memory, Mapping::OfFile(fd.get(), {.size = size}));
  return DirtyLog(std::move(fd), std::move(memory), end);
}

void DirtyLog::ReadAndClear(absl::FunctionRef<void(GuestRange)> visit) const {
  Run run;
  for (size_t i = 0; i < memory_.size() / sizeof(Word); i++) {
    std::atomic_ref<Word> word(*reinterpret_cast<Word*>(memory_.data() + i * sizeof(Word)));
    // Almost all words are 0: a plain load leaves their cache lines shared.
    if (word.load(std::memory_order_relaxed) == 0) continue;
    Word bits = word.exchange(0, std::memory_order_acq_rel);
    while (bits != 0) {
      const uint64_t page = i * kPagesPerWord + static_cast<uint64_t>(std::countr_zero(bits));
      if (page != run.end) {
        run.Report(end_.value(), visit);
        run.first = page;
      }
      run.end = page + 1;
      bits &= bits - 1;
    }
  }
  run.Report(end_.value(), visit);
}

}  // namespace gmem::vhost
