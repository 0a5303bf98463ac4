// SPDX-License-Identifier: MIT OR Apache-2.0
#include "event_types.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmem/monitor.h"

namespace gmemctl {
namespace {

// Gaps are no events to choose: they are always shown.
std::vector<gmem::EventType> AllTypes() {
  std::vector<gmem::EventType> types;
  for (auto number = static_cast<uint32_t>(gmem::EventType::kVmCreated);
       number <= static_cast<uint32_t>(gmem::EventType::kChange); ++number) {
    types.push_back(static_cast<gmem::EventType>(number));
  }
  return types;
}

std::optional<gmem::EventType> TypeCalled(absl::string_view name) {
  for (const gmem::EventType type : AllTypes()) {
    if (gmem::ToString(type) == name) return type;
  }
  return std::nullopt;
}

void AppendName(std::string* out, gmem::EventType type) {
  absl::StrAppend(out, gmem::ToString(type));
}

}  // namespace

bool AbslParseFlag(absl::string_view text, EventTypes* types, std::string* error) {
  types->clear();
  for (const absl::string_view name : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const auto type = TypeCalled(name);
    if (!type) {
      *error = absl::StrCat("there is no event ", name, ": use some of ",
                            absl::StrJoin(AllTypes(), ",", AppendName));
      return false;
    }
    types->insert(*type);
  }
  return true;
}

std::string AbslUnparseFlag(const EventTypes& types) {
  return absl::StrJoin(types, ",", AppendName);
}

}  // namespace gmemctl
