// SPDX-License-Identifier: MIT OR Apache-2.0
// Output of the subcommands.
#ifndef GMEMCTL_OUTPUT_H_
#define GMEMCTL_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gmem/monitor.h"
#include "gmem/vm.h"
#include "nlohmann/json_fwd.hpp"

namespace gmemctl {

using Json = nlohmann::ordered_json;

// Did the user ask for JSON (-j, -p)?
bool WantsJson();

// Prints one value and a newline, and flushes; on many lines with -p.
void PrintJson(const Json& value);

// Returns a space and the name in quotes, to follow an object's number; "" if there is no name.
std::string NameText(absl::string_view name);

// "lend", "share"; "rwx", "r-x".
absl::string_view ModeName(gmem::MapMode mode);
std::string PermissionText(bool read, bool write, bool execute);

// A line about a binding, without its end: "  0x40000000-0x4fffffff lend  rwx guestmem 3 "ram"
// ...".
std::string BindingText(const gmem::Binding& binding, const std::string& memory_name);

// Replaces a file by one with these contents; on failure the old file is unchanged.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents);

// The detail of each parcel of a VM: the label by which Gunyah knows the parcel.
inline constexpr absl::string_view kLabel = "label";

Json ToJson(const gmem::VmState& vm);
// @memory_name: that of the guestmem; "" if it has none.
Json ToJson(const gmem::Binding& binding, const std::string& memory_name);
Json ToJson(const gmem::GuestMemoryState& memory);
Json ToJson(const gmem::PageCounts& pages);
Json ToJson(const gmem::WindowState& window);
Json ToJson(const gmem::ViewState& view);
Json ToJson(const gmem::DeviceStats& stats);
Json ToJson(const gmem::Event& event);

}  // namespace gmemctl

#endif  // GMEMCTL_OUTPUT_H_
