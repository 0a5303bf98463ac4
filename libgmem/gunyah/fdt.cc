// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gunyah/fdt.h"

#include <libfdt.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gmem/types.h"

namespace gmem::gunyah_internal {
namespace {

using internal::CheckError;

// The Resource Manager's, if a parent has no numbers of cells.
constexpr int kDefaultAddressCells = 2;
constexpr int kDefaultSizeCells = 1;
constexpr size_t kCellSize = sizeof(fdt32_t);

absl::Span<const uint8_t> GetBytes(absl::Span<const uint8_t> tree, int node, const char* property) {
  int size = 0;
  const void* const bytes = fdt_getprop(tree.data(), node, property, &size);
  if (bytes == nullptr || size < 0) return {};
  return {static_cast<const uint8_t*>(bytes), static_cast<size_t>(size)};
}

uint64_t ReadCells(absl::Span<const uint8_t> bytes, int cells) {
  uint64_t value = 0;
  for (size_t i = 0; i < static_cast<size_t>(cells) * kCellSize; i++) value = value << 8 | bytes[i];
  return value;
}

// Only one or two cells make a number that fits here.
bool IsNumber(int cells) { return cells == 1 || cells == 2; }

int CellsOr(absl::Span<const uint8_t> tree, int node, const char* property, int otherwise) {
  const auto cells = GetU32(tree, node, property);
  // Numbers of more than two cells are refused where they are read.
  constexpr uint32_t kTooMany = 255;
  return cells ? static_cast<int>(std::min(*cells, kTooMany)) : otherwise;
}

// The place of a walk: for each depth, the cells that the node's children use, and the length of
// the node's path.
struct Level {
  int address_cells = kDefaultAddressCells;
  int size_cells = kDefaultSizeCells;
  size_t path = 0;
};

absl::Status CheckLevel(absl::Span<const uint8_t> tree, int node, int depth, size_t path) {
  if (path <= kMaxPath) return absl::OkStatus();
  return CheckError(EINVAL, absl::StrCat("the path of a node at depth ", depth, ", which ends in ",
                                         Printable(fdt_get_name(tree.data(), node, nullptr)),
                                         ", has ", path, " bytes: Gunyah takes ", kMaxPath,
                                         " at most; give the nodes shorter names"));
}

}  // namespace

absl::Status ForEachNode(absl::Span<const uint8_t> tree,
                         absl::FunctionRef<absl::Status(const Node&)> visit) {
  std::array<Level, kMaxDepth + 1> levels;
  int depth = 0;
  for (int node = 0; node >= 0 && depth >= 0; node = fdt_next_node(tree.data(), node, &depth)) {
    if (depth > kMaxDepth) {
      return CheckError(EINVAL,
                        absl::StrCat("the node ", PathOf(tree, node), " is too deep: Gunyah takes ",
                                     kMaxDepth, " levels below the root; move it up"));
    }
    const Level above = depth > 0 ? levels[depth - 1] : Level();
    const char* const name = fdt_get_name(tree.data(), node, nullptr);
    levels[depth] = {.address_cells = ChildAddressCells(tree, node),
                     .size_cells = ChildSizeCells(tree, node),
                     .path = above.path + (depth > 0 ? std::strlen(name) + 1 : 0)};
    GMEM_RETURN_IF_ERROR(CheckLevel(tree, node, depth, levels[depth].path));
    GMEM_RETURN_IF_ERROR(visit({.offset = node,
                                .depth = depth,
                                .address_cells = above.address_cells,
                                .size_cells = above.size_cells}));
  }
  return absl::OkStatus();
}

std::optional<int> FindNode(absl::Span<const uint8_t> tree, const char* path) {
  const int node = fdt_path_offset(tree.data(), path);
  return node >= 0 ? std::optional<int>(node) : std::nullopt;
}

std::optional<int> FindChild(absl::Span<const uint8_t> tree, int node, const char* name) {
  int child = 0;
  fdt_for_each_subnode(child, tree.data(), node) {
    if (std::strcmp(fdt_get_name(tree.data(), child, nullptr), name) == 0) return child;
  }
  return std::nullopt;
}

std::string PathOf(absl::Span<const uint8_t> tree, int node) {
  std::array<char, kMaxPath + 1> path = {};
  if (fdt_get_path(tree.data(), node, path.data(), path.size()) == 0) {
    return Printable(path.data());
  }
  return absl::StrCat("*/", Printable(fdt_get_name(tree.data(), node, nullptr)));
}

std::string Printable(absl::string_view text) {
  constexpr size_t kEnough = 80;
  return absl::CHexEscape(text.substr(0, kEnough));
}

bool HasProperty(absl::Span<const uint8_t> tree, int node, const char* property) {
  return fdt_getprop(tree.data(), node, property, nullptr) != nullptr;
}

bool HasText(absl::Span<const uint8_t> tree, int node, const char* property, const char* text) {
  return fdt_stringlist_search(tree.data(), node, property, text) >= 0;
}

std::optional<absl::string_view> GetText(absl::Span<const uint8_t> tree, int node,
                                         const char* property) {
  int size = 0;
  const char* const text = fdt_stringlist_get(tree.data(), node, property, 0, &size);
  if (text == nullptr) return std::nullopt;
  return absl::string_view(text, static_cast<size_t>(size));
}

std::optional<uint64_t> GetNumber(absl::Span<const uint8_t> tree, int node, const char* property,
                                  int cells) {
  const auto bytes = GetBytes(tree, node, property);
  if (!IsNumber(cells) || bytes.size() != static_cast<size_t>(cells) * kCellSize) {
    return std::nullopt;
  }
  return ReadCells(bytes, cells);
}

std::optional<uint32_t> GetU32(absl::Span<const uint8_t> tree, int node, const char* property) {
  const auto number = GetNumber(tree, node, property, 1);
  if (!number) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

std::optional<uint32_t> GetLabel(absl::Span<const uint8_t> tree, int node) {
  const auto label = GetU32(tree, node, "qcom,label");
  return label ? label : GetU32(tree, node, "label");
}

std::optional<GuestRange> GetRange(absl::Span<const uint8_t> tree, int node, int address_cells,
                                   int size_cells) {
  const auto bytes = GetBytes(tree, node, "reg");
  if (!IsNumber(address_cells) || !IsNumber(size_cells) ||
      bytes.size() != static_cast<size_t>(address_cells + size_cells) * kCellSize) {
    return std::nullopt;
  }
  const size_t address_size = static_cast<size_t>(address_cells) * kCellSize;
  return GuestRange{GuestAddress(ReadCells(bytes, address_cells)),
                    ByteSize(ReadCells(bytes.subspan(address_size), size_cells))};
}

int ChildAddressCells(absl::Span<const uint8_t> tree, int node) {
  return CellsOr(tree, node, "#address-cells", kDefaultAddressCells);
}

int ChildSizeCells(absl::Span<const uint8_t> tree, int node) {
  return CellsOr(tree, node, "#size-cells", kDefaultSizeCells);
}

}  // namespace gmem::gunyah_internal
