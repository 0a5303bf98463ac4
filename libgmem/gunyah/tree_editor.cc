// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gunyah/tree_editor.h"

#include <libfdt.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"
#include "gunyah/fdt.h"

namespace gmem::gunyah_internal {
namespace {

constexpr size_t kFirstRoom = 4096;

std::vector<uint8_t> ToBytes(absl::Span<const uint32_t> cells) {
  std::vector<uint8_t> bytes;
  for (const uint32_t cell : cells) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      bytes.push_back(static_cast<uint8_t>(cell >> shift));
    }
  }
  return bytes;
}

}  // namespace

TreeEditor::TreeEditor(absl::Span<const uint8_t> tree, size_t room) : buffer_(tree.size() + room) {
  const int size = static_cast<int>(buffer_.size());
  error_ = tree.empty() ? fdt_create_empty_tree(buffer_.data(), size)
                        : fdt_open_into(tree.data(), buffer_.data(), size);
}

int TreeEditor::AddNode(int parent, absl::string_view name) {
  if (error_ != 0) return kRoot;
  const int node =
      fdt_add_subnode_namelen(buffer_.data(), parent, name.data(), static_cast<int>(name.size()));
  if (node >= 0) return node;
  error_ = node;
  return kRoot;
}

void TreeEditor::SetBytes(int node, const char* property, absl::Span<const uint8_t> bytes) {
  if (error_ != 0) return;
  error_ =
      fdt_setprop(buffer_.data(), node, property, bytes.data(), static_cast<int>(bytes.size()));
}

void TreeEditor::SetU64(int node, const char* property, uint64_t value) {
  SetCells(node, property, {static_cast<uint32_t>(value >> 32), static_cast<uint32_t>(value)});
}

void TreeEditor::SetCells(int node, const char* property, absl::Span<const uint32_t> cells) {
  SetBytes(node, property, ToBytes(cells));
}

void TreeEditor::SetText(int node, const char* property, absl::string_view text) {
  SetTexts(node, property, {std::string(text)});
}

void TreeEditor::SetTexts(int node, const char* property, absl::Span<const std::string> texts) {
  std::vector<uint8_t> bytes;
  for (const std::string& text : texts) {
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.push_back(0);
  }
  SetBytes(node, property, bytes);
}

void TreeEditor::SetCellCounts(int node, uint32_t size_cells) {
  SetU32(node, "#address-cells", 2);
  SetU32(node, "#size-cells", size_cells);
}

std::vector<uint8_t> TreeEditor::Take() && {
  fdt_pack(buffer_.data());
  buffer_.resize(fdt_totalsize(buffer_.data()));
  return std::move(buffer_);
}

absl::StatusOr<std::vector<uint8_t>> EditTree(absl::Span<const uint8_t> tree,
                                              absl::FunctionRef<void(TreeEditor&)> edit) {
  for (size_t room = kFirstRoom; room <= kMaxTreeSize; room *= 4) {
    TreeEditor editor(tree, room);
    edit(editor);
    if (editor.error() == 0) {
      std::vector<uint8_t> edited = std::move(editor).Take();
      if (edited.size() > kMaxTreeSize) break;
      return edited;
    }
    if (editor.error() != -FDT_ERR_NOSPACE) {
      return internal::CheckError(
          EINVAL, absl::StrCat("can't add to the device tree: ", fdt_strerror(editor.error())));
    }
  }
  return internal::CheckError(
      ENOSPC,
      absl::StrCat("the device tree would be larger than ", gmem::ToString(ByteSize(kMaxTreeSize)),
                   ", and Linux takes no larger one: leave something out"));
}

}  // namespace gmem::gunyah_internal
