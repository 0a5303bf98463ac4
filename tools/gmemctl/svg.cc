// SPDX-License-Identifier: MIT OR Apache-2.0
#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "find.h"
#include "output.h"
#include "picture.h"

namespace gmemctl {
namespace {

constexpr size_t kCell = 10;
constexpr size_t kLeft = 20;
constexpr size_t kLine = 18;
constexpr size_t kLegend = 104;
// Width of a character, generously, in a monospaced font of 12 pixels.
constexpr size_t kCharacter = 8;

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

void AppendText(std::string* out, size_t x, size_t y, absl::string_view text) {
  absl::StrAppendFormat(out, "<text x=\"%d\" y=\"%d\">%s</text>\n", x, y, Escape(text));
}

void AppendBox(std::string* out, size_t x, size_t y, size_t width, size_t height,
               absl::string_view colour, absl::string_view title) {
  absl::StrAppendFormat(out,
                        "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\">"
                        "<title>%s</title></rect>\n",
                        x, y, width, height, colour, Escape(title));
}

// Draws one box for each run of equal cells within a row.
void AppendCells(std::string* out, const Piece& piece, size_t top, size_t columns) {
  for (size_t i = 0; i < piece.cells.size();) {
    const size_t row_end = std::min(piece.cells.size(), (i / columns + 1) * columns);
    size_t end = i + 1;
    while (end < row_end && piece.cells[end] == piece.cells[i]) ++end;
    const CellStyle& style = StyleOf(piece.cells[i]);
    AppendBox(out, kLeft + i % columns * kCell, top + i / columns * kCell, (end - i) * kCell, kCell,
              style.colour, style.name);
    i = end;
  }
}

}  // namespace

std::string ToSvg(const Picture& picture, size_t width) {
  std::string body;
  size_t y = 2 * kLine;
  size_t right = kLeft + std::max(width * kCell, kNrNamedStates * kLegend);
  const auto append_line = [&](const std::string& text) {
    AppendText(&body, kLeft, y, text);
    right = std::max(right, kLeft + text.size() * kCharacter);
  };
  append_line(absl::StrFormat("VM %d%s (%s, %s[%d]); a cell is %s", picture.vm.id,
                              NameText(picture.vm.name), picture.vm.provider,
                              tools::Printable(picture.vm.command), picture.vm.pid,
                              ToString(picture.cell_size)));
  y += kLine;
  for (size_t i = 0; i < kNrNamedStates; ++i) {
    const CellStyle& style = StyleOf(static_cast<CellState>(i));
    AppendBox(&body, kLeft + i * kLegend, y - kCell, kCell, kCell, style.colour, style.name);
    AppendText(&body, kLeft + i * kLegend + 14, y, style.name);
  }
  y += kLine;
  for (const Piece& piece : picture.pieces) {
    y += kLine;
    append_line(absl::StrCat(ToString(piece.range), " ", PieceText(picture, piece)));
    if (piece.is_hole()) continue;
    y += kLine / 3;
    AppendCells(&body, piece, y, width);
    y += (piece.cells.size() + width - 1) / width * kCell + kLine / 3;
  }
  y += kLine;
  const auto append_holders = [&](const std::string& what, const std::vector<Holder>& holders) {
    y += kLine;
    append_line(absl::StrCat(what, " open in ", HoldersText(holders)));
  };
  append_holders(absl::StrCat("VM ", picture.vm.id), picture.vm_holders);
  for (const auto& [id, holders] : picture.memory_holders) {
    append_holders(absl::StrCat("guestmem ", id, NameText(picture.memory_names.at(id))), holders);
  }
  return absl::StrFormat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
      "font-family=\"monospace\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n%s</svg>\n",
      right + kLeft, y + 2 * kLine, body);
}

}  // namespace gmemctl
