// SPDX-License-Identifier: MIT OR Apache-2.0
#include "sort_key.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmem/monitor.h"

namespace gmemctl {
namespace {

struct NamedKey {
  absl::string_view name;
  SortKey key;
};
constexpr std::array<NamedKey, 8> kKeys = {{{"lent", SortKey::kLent},
                                            {"refused", SortKey::kRefused},
                                            {"waiters", SortKey::kWaiters},
                                            {"bindings", SortKey::kBindings},
                                            {"vm", SortKey::kVm},
                                            {"pid", SortKey::kPid},
                                            {"command", SortKey::kCommand},
                                            {"name", SortKey::kName}}};

bool IsBefore(SortKey key, const gmem::VmState& a, const gmem::VmState& b) {
  switch (key) {
    case SortKey::kLent:
      return a.lent_pages > b.lent_pages;
    case SortKey::kRefused:
      return a.refused > b.refused;
    case SortKey::kWaiters:
      return Waiters(a) > Waiters(b);
    case SortKey::kBindings:
      return a.bindings > b.bindings;
    case SortKey::kVm:
      return a.id < b.id;
    case SortKey::kPid:
      return a.pid < b.pid;
    case SortKey::kCommand:
      return a.command < b.command;
    case SortKey::kName:
      return a.name < b.name;
  }
  return false;
}

}  // namespace

bool AbslParseFlag(absl::string_view text, SortKey* key, std::string* error) {
  *error = "use one of";
  for (const NamedKey& named : kKeys) {
    if (named.name == text) {
      *key = named.key;
      return true;
    }
    absl::StrAppend(error, &named == &kKeys.front() ? " " : ", ", named.name);
  }
  return false;
}

std::string AbslUnparseFlag(SortKey key) {
  for (const NamedKey& named : kKeys) {
    if (named.key == key) return std::string(named.name);
  }
  return "";
}

std::optional<SortKey> SortKeyOf(char letter) {
  for (const NamedKey& named : kKeys) {
    if (named.name.front() == letter) return named.key;
  }
  return std::nullopt;
}

void Sort(SortKey key, std::vector<gmem::VmState>* vms) {
  std::stable_sort(vms->begin(), vms->end(), [key](const gmem::VmState& a, const gmem::VmState& b) {
    return IsBefore(key, a, b);
  });
}

uint64_t Waiters(const gmem::VmState& vm) {
  uint64_t waiters = 0;
  for (const gmem::VmDetail& detail : vm.details) {
    if (detail.name == "waiters") waiters += detail.value;
  }
  return waiters;
}

}  // namespace gmemctl
