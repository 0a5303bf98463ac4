// SPDX-License-Identifier: MIT OR Apache-2.0
// The value of the flag --event.
#ifndef GMEMCTL_EVENT_TYPES_H_
#define GMEMCTL_EVENT_TYPES_H_

#include <set>
#include <string>

#include "absl/strings/string_view.h"
#include "gmem/monitor.h"

namespace gmemctl {

// Kinds of events; empty for all. As text: their names, with commas between them.
struct EventTypes : std::set<gmem::EventType> {};

bool AbslParseFlag(absl::string_view text, EventTypes* types, std::string* error);
std::string AbslUnparseFlag(const EventTypes& types);

}  // namespace gmemctl

#endif  // GMEMCTL_EVENT_TYPES_H_
