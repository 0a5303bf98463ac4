// SPDX-License-Identifier: MIT OR Apache-2.0
#include "gunyah/gic.h"

#include <libfdt.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "gunyah/fdt.h"

namespace gmem::gunyah_internal {
namespace {

using Tree = absl::Span<const uint8_t>;

constexpr int kRoot = 0;
constexpr char kGicV3[] = "arm,gic-v3";

bool IsGic(Tree tree, int node) {
  return HasText(tree, node, "compatible", kGicV3) &&
         HasProperty(tree, node, "interrupt-controller") &&
         GetU32(tree, node, "#interrupt-cells") == 3U &&
         GetU32(tree, node, "#redistributor-regions").value_or(1) == 1U &&
         fdt_get_phandle(tree.data(), node) != 0;
}

std::optional<int> FindByPhandle(Tree tree, std::optional<uint32_t> phandle) {
  const int node = phandle ? fdt_node_offset_by_phandle(tree.data(), *phandle) : -1;
  return node >= 0 ? std::optional<int>(node) : std::nullopt;
}

// The node that the tree names as its interrupt controller.
std::optional<int> FindNamed(Tree tree, int config) {
  const auto interrupts = FindChild(tree, config, "interrupts");
  if (interrupts && HasProperty(tree, *interrupts, "config")) {
    const std::string path(GetText(tree, *interrupts, "config").value_or(""));
    if (absl::StartsWith(path, "/")) return FindNode(tree, path.c_str());
    return FindByPhandle(tree, GetU32(tree, *interrupts, "config"));
  }
  return FindByPhandle(tree, GetU32(tree, kRoot, "interrupt-parent"));
}

}  // namespace

std::string FindGic(Tree tree) {
  int node = fdt_node_offset_by_compatible(tree.data(), -1, kGicV3);
  while (node >= 0 && !IsGic(tree, node)) {
    node = fdt_node_offset_by_compatible(tree.data(), node, kGicV3);
  }
  std::string path(kMaxPath + 1, '\0');
  if (node < 0 ||
      fdt_get_path(tree.data(), node, path.data(), static_cast<int>(path.size())) != 0) {
    return "";
  }
  path.resize(path.find('\0'));
  return path;
}

absl::Status CheckGic(Tree tree, int config) {
  const auto node = FindNamed(tree, config);
  if (node && IsGic(tree, *node)) return absl::OkStatus();
  return internal::CheckError(
      EINVAL,
      absl::StrCat(node ? absl::StrCat("the interrupt controller, ", PathOf(tree, *node),
                                       ", isn't a GICv3 with a phandle")
                        : "the tree names no interrupt controller",
                   ", and Gunyah makes none: add a node that is compatible with ", kGicV3,
                   ", with interrupt-controller, #interrupt-cells 3 and a phandle, and make it the "
                   "root's interrupt-parent"));
}

}  // namespace gmem::gunyah_internal
