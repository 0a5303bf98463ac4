// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace minivmm {

std::vector<std::string> CounterEvents::Take() {
  absl::StatusOr<gmem::DeviceStats> now = device_->Stats();
  if (!now.ok()) return {};
  std::vector<std::string> changes;
  auto add = [&](uint64_t before, uint64_t after, const char* what) {
    if (after != before) changes.push_back(absl::StrCat(after - before, what));
  };
  if (last_) {
    if (now->bindings != last_->bindings) {
      changes.push_back(absl::StrCat(now->bindings, " bindings"));
    }
    add(last_->lends, now->lends, " pages lent");
    add(last_->reclaims, now->reclaims, " taken back");
    add(last_->refused, now->refused, " accesses refused");
  }
  last_ = *now;
  if (changes.empty()) return {};
  return {absl::StrJoin(changes, ", ")};
}

}  // namespace minivmm
