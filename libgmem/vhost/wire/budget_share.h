// SPDX-License-Identifier: MIT OR Apache-2.0
// A part of the process's budget. Not installed.
#ifndef GMEM_VHOST_WIRE_BUDGET_SHARE_H_
#define GMEM_VHOST_WIRE_BUDGET_SHARE_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"

#pragma GCC visibility push(hidden)
namespace gmem::vhost::wire_internal {

// Counts for what its owner holds, until it is destroyed.
class BudgetShare {
 public:
  enum class Kind : uint8_t { kMappings, kDescriptors };

  // Nothing.
  BudgetShare() = default;
  // ResourceExhausted (ENOMEM or EMFILE) if the process has no more. Any thread may call this.
  static absl::StatusOr<BudgetShare> Take(Kind kind, size_t count);

  BudgetShare(BudgetShare&& other) noexcept
      : kind_(other.kind_), count_(std::exchange(other.count_, 0)) {}
  BudgetShare& operator=(BudgetShare&& other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~BudgetShare();

 private:
  BudgetShare(Kind kind, size_t count) : kind_(kind), count_(count) {}

  Kind kind_ = Kind::kMappings;
  size_t count_ = 0;
};

}  // namespace gmem::vhost::wire_internal
#pragma GCC visibility pop

#endif  // GMEM_VHOST_WIRE_BUDGET_SHARE_H_
