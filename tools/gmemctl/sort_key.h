// SPDX-License-Identifier: MIT OR Apache-2.0
// The value of the flag --sort: a column of "gmemctl top".
#ifndef GMEMCTL_SORT_KEY_H_
#define GMEMCTL_SORT_KEY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "gmem/monitor.h"

namespace gmemctl {

enum class SortKey { kLent, kRefused, kWaiters, kBindings, kVm, kPid, kCommand, kName };

bool AbslParseFlag(absl::string_view text, SortKey* key, std::string* error);
std::string AbslUnparseFlag(SortKey key);

// The key whose name begins with this letter; letters differ.
std::optional<SortKey> SortKeyOf(char letter);

// Puts the largest counts first, and the lowest numbers and names. Equal VMs stay in order.
void Sort(SortKey key, std::vector<gmem::VmState>* vms);

// How many threads wait for pages of the VM.
uint64_t Waiters(const gmem::VmState& vm);

}  // namespace gmemctl

#endif  // GMEMCTL_SORT_KEY_H_
