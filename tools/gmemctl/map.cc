// SPDX-License-Identifier: MIT OR Apache-2.0
// gmemctl map: a guest address space, in a terminal or as SVG.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/text.h"
#include "choose.h"
#include "commands.h"
#include "find.h"
#include "flags.h"
#include "gmem/monitor.h"
#include "nlohmann/json.hpp"
#include "output.h"
#include "picture.h"

namespace gmemctl {
namespace {

// In colour, the text changes the colour where the state changes.
std::string RowText(const std::vector<CellState>& cells, size_t begin, size_t end, bool in_colour) {
  std::string row;
  for (size_t i = begin; i < end; ++i) {
    const CellStyle& style = StyleOf(cells[i]);
    if (in_colour && (i == begin || cells[i] != cells[i - 1])) {
      absl::StrAppend(&row, "\x1b[0;", style.terminal, "m");
    }
    row += style.character;
  }
  if (in_colour) absl::StrAppend(&row, "\x1b[0m");
  return row;
}

void PrintPicture(const Picture& picture, size_t width) {
  const bool in_colour = isatty(STDOUT_FILENO) != 0 && getenv("NO_COLOR") == nullptr;
  std::cout << absl::StreamFormat("vm %d%s (%s, %s[%d]); a character is %s:", picture.vm.id,
                                  NameText(picture.vm.name), picture.vm.provider,
                                  tools::Printable(picture.vm.command), picture.vm.pid,
                                  ToString(picture.cell_size));
  for (size_t i = 0; i < kNrNamedStates; ++i) {
    const CellStyle& style = StyleOf(static_cast<CellState>(i));
    std::cout << " " << RowText({static_cast<CellState>(i)}, 0, 1, in_colour) << " " << style.name;
  }
  std::cout << "\n";
  for (const Piece& piece : picture.pieces) {
    std::cout << absl::StreamFormat("0x%012x  %s\n", piece.range.start.value(),
                                    PieceText(picture, piece));
    for (size_t i = 0; i < piece.cells.size(); i += width) {
      std::cout << absl::StreamFormat(
          "0x%012x  %s\n", piece.range.start.value() + i * picture.cell_size.value(),
          RowText(piece.cells, i, std::min(piece.cells.size(), i + width), in_colour));
    }
  }
  std::cout << "open, by descriptors of processes:\n"
            << absl::StreamFormat("  vm %d: %s\n", picture.vm.id, HoldersText(picture.vm_holders));
  for (const auto& [id, holders] : picture.memory_holders) {
    std::cout << absl::StreamFormat("  guestmem %d%s: %s\n", id,
                                    NameText(picture.memory_names.at(id)), HoldersText(holders));
  }
}

Json HoldersJson(const std::vector<Holder>& holders) {
  Json json = Json::array();
  for (const Holder& holder : holders) {
    json.push_back({{"pid", holder.pid}, {"comm", holder.command}, {"fd", holder.fd}});
  }
  return json;
}

Json PictureJson(const Picture& picture) {
  Json pieces = Json::array();
  for (const Piece& piece : picture.pieces) {
    const size_t nr = piece.bindings.size();
    Json json = {{"kind", nr == 0   ? "hole"
                          : nr == 1 ? "binding"
                                    : "bindings"},
                 {"guest_addr", piece.range.start.value()},
                 {"length", piece.range.size.value()}};
    if (nr == 1) {
      const gmem::Binding& binding = piece.bindings.front();
      json.update(ToJson(binding, picture.memory_names.at(binding.memory_id)));
    } else if (nr > 1) {
      json["bindings"] = nr;
      json["bound"] = piece.BoundSize().value();
    }
    if (nr != 0) {
      if (piece.pages) json["pages"] = ToJson(*piece.pages);
      std::string cells;
      for (const CellState state : piece.cells) cells += StyleOf(state).character;
      json["cells"] = cells;
    }
    pieces.push_back(json);
  }
  Json memories = Json::array();
  for (const auto& [id, holders] : picture.memory_holders) {
    memories.push_back(
        {{"id", id}, {"name", picture.memory_names.at(id)}, {"holders", HoldersJson(holders)}});
  }
  return {{"vm", ToJson(picture.vm)},
          {"vm_holders", HoldersJson(picture.vm_holders)},
          {"guestmems", memories},
          {"cell_size", picture.cell_size.value()},
          {"pieces", pieces}};
}

}  // namespace

absl::StatusOr<int> RunMap(Arguments /*arguments*/) {
  const size_t width = *absl::GetFlag(FLAGS_width);
  auto monitor = gmem::Monitor::Open();
  if (!monitor.ok()) return monitor.status();
  const auto vm_id = ChooseVm(*monitor);
  if (!vm_id.ok()) return vm_id.status();
  const auto picture = TakePicture(*monitor, *vm_id, width);
  if (!picture.ok()) return picture.status();
  if (const std::string file = absl::GetFlag(FLAGS_svg); !file.empty()) {
    if (absl::Status status = WriteFileAtomically(file, ToSvg(*picture, width)); !status.ok()) {
      return status;
    }
    if (!WantsJson()) return 0;
  }
  if (WantsJson()) {
    PrintJson(PictureJson(*picture));
  } else {
    PrintPicture(*picture, width);
  }
  return 0;
}

}  // namespace gmemctl
