// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gmem/vhost/budget.h"

#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <limits>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "vhost/wire/budget_share.h"

namespace gmem::vhost {
namespace {

using wire_internal::BudgetShare;

// The limits are those of the process, so the counts are, too.
struct Count {
  std::atomic<size_t> used = 0;
  // 0: the default.
  std::atomic<size_t> limit = 0;
};
constinit Count mappings;
constinit Count descriptors;

Count& Of(BudgetShare::Kind kind) {
  return kind == BudgetShare::Kind::kMappings ? mappings : descriptors;
}

// The rest is for the process itself.
size_t MostOf(size_t all) { return all - all / 8; }

size_t MaxMappings() {
  static const size_t max = [] {
    // The kernel's default, for a sandbox without /proc.
    size_t count = 65530;
    std::ifstream("/proc/sys/vm/max_map_count") >> count;
    return count == 0 ? size_t{65530} : count;
  }();
  return max;
}

size_t MaxDescriptors() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<size_t>::max();
  }
  return limit.rlim_cur;
}

size_t LimitOf(BudgetShare::Kind kind) {
  const size_t limit = Of(kind).limit;
  if (limit != 0) return limit;
  return MostOf(kind == BudgetShare::Kind::kMappings ? MaxMappings() : MaxDescriptors());
}

}  // namespace

Budget ProcessBudget() {
  return {.mappings = LimitOf(BudgetShare::Kind::kMappings),
          .descriptors = LimitOf(BudgetShare::Kind::kDescriptors)};
}

void SetProcessBudget(const Budget& budget) {
  mappings.limit = budget.mappings;
  descriptors.limit = budget.descriptors;
}

Budget UsedBudget() { return {.mappings = mappings.used, .descriptors = descriptors.used}; }

namespace wire_internal {

absl::StatusOr<BudgetShare> BudgetShare::Take(Kind kind, size_t count) {
  const size_t limit = LimitOf(kind);
  std::atomic<size_t>& used = Of(kind).used;
  size_t before = used;
  while (before <= limit && count <= limit - before) {
    if (used.compare_exchange_weak(before, before + count)) return BudgetShare(kind, count);
  }
  const bool is_memory = kind == Kind::kMappings;
  return internal::CheckError(
      is_memory ? ENOMEM : EMFILE,
      absl::StrCat("the sessions of this process hold ", before, " of ", limit,
                   is_memory ? " mappings: raise vm.max_map_count, or see SetProcessBudget()"
                             : " descriptors: raise RLIMIT_NOFILE, or see SetProcessBudget()"));
}

BudgetShare::~BudgetShare() { Of(kind_).used -= count_; }

}  // namespace wire_internal
}  // namespace gmem::vhost
