// SPDX-License-Identifier: MIT OR Apache-2.0
// Reads flattened device trees whose structure DeviceTree::Parse() has checked; their contents are
// any. Not installed.
#ifndef GMEM_GUNYAH_FDT_H_
#define GMEM_GUNYAH_FDT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmem/types.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// The largest tree: Linux for arm64 takes no larger one.
inline constexpr size_t kMaxTreeSize = size_t{2} << 20;
// The Resource Manager takes no deeper tree and no longer path.
inline constexpr int kMaxDepth = 15;
inline constexpr size_t kMaxPath = 255;

// A node, as a walk finds it.
struct Node {
  int offset = 0;
  // The root has 0.
  int depth = 0;
  // How many cells an address and a size have in this node: its parent says so.
  int address_cells = 2;
  int size_cells = 1;
};

// Calls @visit with each node, parents first, until an error. Fails itself for a tree that is too
// deep for the Resource Manager.
absl::Status ForEachNode(absl::Span<const uint8_t> tree,
                         absl::FunctionRef<absl::Status(const Node&)> visit);

// The offset of the node at a path, where names may lack their unit addresses; nothing if there is
// none.
std::optional<int> FindNode(absl::Span<const uint8_t> tree, const char* path);
// The offset of a child whose name is exactly this one, without a unit address; nothing if there is
// none.
std::optional<int> FindChild(absl::Span<const uint8_t> tree, int node, const char* name);

// A text for messages, without bytes that can't be printed.
std::string PathOf(absl::Span<const uint8_t> tree, int node);
std::string Printable(absl::string_view text);

bool HasProperty(absl::Span<const uint8_t> tree, int node, const char* property);
// Is @text one of the strings of the property?
bool HasText(absl::Span<const uint8_t> tree, int node, const char* property, const char* text);
// The first string of the property; nothing without the property, or if it isn't text.
std::optional<absl::string_view> GetText(absl::Span<const uint8_t> tree, int node,
                                         const char* property);
// A number of exactly this many cells, 1 or 2.
std::optional<uint64_t> GetNumber(absl::Span<const uint8_t> tree, int node, const char* property,
                                  int cells);
std::optional<uint32_t> GetU32(absl::Span<const uint8_t> tree, int node, const char* property);
// The name of a device or a region: "qcom,label" or "label".
std::optional<uint32_t> GetLabel(absl::Span<const uint8_t> tree, int node);
// The only range of "reg".
std::optional<GuestRange> GetRange(absl::Span<const uint8_t> tree, int node, int address_cells,
                                   int size_cells);
// The number of cells that children of the node use, as the Resource Manager counts them.
int ChildAddressCells(absl::Span<const uint8_t> tree, int node);
int ChildSizeCells(absl::Span<const uint8_t> tree, int node);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_FDT_H_
