// SPDX-License-Identifier: MIT OR Apache-2.0
// Adds nodes and properties to a flattened device tree. Not installed.
#ifndef GMEM_GUNYAH_TREE_EDITOR_H_
#define GMEM_GUNYAH_TREE_EDITOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Hidden: users of the shared library can't link with this.
#pragma GCC visibility push(hidden)
namespace gmem::gunyah_internal {

// The nodes are offsets, as libfdt has them. An edit moves what comes after it, and a new node
// comes before its siblings. So set the properties of a node before you add its children, and add
// children in the opposite order of that in which they shall stand. After an error, the other
// methods do nothing.
class TreeEditor {
 public:
  static constexpr int kRoot = 0;

  // Copies the tree to a buffer with that much room. An empty @tree stands for a root without
  // anything.
  TreeEditor(absl::Span<const uint8_t> tree, size_t room);

  int AddNode(int parent, absl::string_view name);
  void SetEmpty(int node, const char* property) { SetBytes(node, property, {}); }
  void SetU32(int node, const char* property, uint32_t value) {
    SetCells(node, property, {&value, 1});
  }
  // Two cells.
  void SetU64(int node, const char* property, uint64_t value);
  void SetCells(int node, const char* property, absl::Span<const uint32_t> cells);
  void SetText(int node, const char* property, absl::string_view text);
  void SetTexts(int node, const char* property, absl::Span<const std::string> texts);
  // Sets the cells that children use: two for an address, and @size_cells for a size.
  void SetCellCounts(int node, uint32_t size_cells = 2);

  // libfdt's first error, or 0.
  int error() const { return error_; }

  // The tree without spare room.
  std::vector<uint8_t> Take() &&;

 private:
  void SetBytes(int node, const char* property, absl::Span<const uint8_t> bytes);

  std::vector<uint8_t> buffer_;
  int error_ = 0;
};

// Returns the tree after the edit. May call @edit several times, each time with a fresh copy and
// more room. ResourceExhausted (ENOSPC) if the tree would be larger than kMaxTreeSize.
absl::StatusOr<std::vector<uint8_t>> EditTree(absl::Span<const uint8_t> tree,
                                              absl::FunctionRef<void(TreeEditor&)> edit);

}  // namespace gmem::gunyah_internal
#pragma GCC visibility pop

#endif  // GMEM_GUNYAH_TREE_EDITOR_H_
