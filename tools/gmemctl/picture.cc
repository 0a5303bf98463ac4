// SPDX-License-Identifier: MIT OR Apache-2.0
#include "picture.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "find.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/types.h"
#include "output.h"

namespace gmemctl {
namespace {

// Rows of cells in a picture, besides one for each piece.
constexpr uint64_t kMaxRows = 16;
constexpr size_t kMaxPieces = 24;

CellState StateOf(const gmem::PageCounts& pages) {
  // The first state wins a draw: leaked and lent pages matter more than the others.
  const std::array<std::pair<uint64_t, CellState>, 5> counts = {{
      {pages.leaked, CellState::kLeaked},
      {pages.lent, CellState::kLent},
      {pages.shared, CellState::kShared},
      {pages.host, CellState::kHost},
      {pages.absent, CellState::kAbsent},
  }};
  const CellState most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        return a.first < b.first;
      })->second;
  // A few lent pages in a cell of many must not disappear from the picture.
  const bool hides_lent = pages.lent != 0 && most != CellState::kLent && most != CellState::kLeaked;
  return hides_lent ? CellState::kPartlyLent : most;
}

// A cell while its bindings are looked at.
struct CellContents {
  gmem::PageCounts pages;
  bool is_bound = false;
  bool is_known = true;
};

void Add(const gmem::PageCounts& from, gmem::PageCounts* to) {
  to->absent += from.absent;
  to->host += from.host;
  to->lent += from.lent;
  to->shared += from.shared;
  to->leaked += from.leaked;
}

// Cuts the bindings into pieces of neighbours, between which a hole is smaller than @join.
std::vector<Piece> CutIntoPieces(const std::vector<gmem::VmBinding>& bindings,
                                 gmem::ByteSize join) {
  std::vector<Piece> pieces;
  for (const gmem::VmBinding& item : bindings) {
    const gmem::GuestRange& range = item.binding.range;
    if (pieces.empty() || range.start - pieces.back().range.end() >= join) {
      pieces.push_back({.range = range, .bindings = {}, .cells = {}, .pages = {}});
    }
    Piece& piece = pieces.back();
    piece.range.size = range.end() - piece.range.start;
    piece.bindings.push_back(item.binding);
  }
  return pieces;
}

bool FitsScreen(const std::vector<Piece>& pieces, size_t width, uint64_t cell_size) {
  if (pieces.size() > kMaxPieces) return false;
  uint64_t more_rows = 0;
  for (const Piece& piece : pieces) {
    more_rows += (piece.range.size.value() - 1) / cell_size / width;
  }
  return more_rows < kMaxRows;
}

// Sets the size of a cell and the pieces, without their cells.
void ChoosePieces(const std::vector<gmem::VmBinding>& bindings, size_t width, Picture* picture) {
  auto size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const bool joins = bindings.size() > kMaxPieces;
  const auto cut = [&] {
    // A hole that is shorter than a row is a part of a piece.
    return CutIntoPieces(bindings, gmem::ByteSize(joins ? size * width : 0));
  };
  picture->pieces = cut();
  // At 2^52 bytes a cell, the largest address space has few cells, so the loop ends before.
  while (!FitsScreen(picture->pieces, width, size) && size < uint64_t{1} << 52) {
    size *= 2;
    if (joins) picture->pieces = cut();
  }
  picture->cell_size = gmem::ByteSize(size);
}

using Memories = std::map<uint64_t, std::optional<gmem::GuestMemory>>;

void FillCells(const Memories& memories, gmem::ByteSize cell_size, Piece* piece) {
  const uint64_t cell = cell_size.value();
  const uint64_t begin = piece->range.start.value();
  std::vector<CellContents> cells((piece->range.size.value() - 1) / cell + 1);
  gmem::PageCounts total;
  bool is_known = true;
  for (const gmem::Binding& binding : piece->bindings) {
    const std::optional<gmem::GuestMemory>& memory = memories.at(binding.memory_id);
    const uint64_t end = binding.range.end().value();
    for (uint64_t at = binding.range.start.value(); at < end;) {
      const uint64_t index = (at - begin) / cell;
      const uint64_t part_end = std::min(end, begin + (index + 1) * cell);
      CellContents& contents = cells[index];
      contents.is_bound = true;
      absl::StatusOr<gmem::PageCounts> pages = absl::NotFoundError("no process has it open");
      if (memory) {
        pages = memory->Query({binding.offset + gmem::ByteSize(at - binding.range.start.value()),
                               gmem::ByteSize(part_end - at)});
      }
      if (pages.ok()) {
        Add(*pages, &contents.pages);
        Add(*pages, &total);
      } else {
        contents.is_known = is_known = false;
      }
      at = part_end;
    }
  }
  for (const CellContents& contents : cells) {
    piece->cells.push_back(!contents.is_bound  ? CellState::kUnbound
                           : contents.is_known ? StateOf(contents.pages)
                                               : CellState::kUnknown);
  }
  if (is_known) piece->pages = total;
}

Piece MakeHole(gmem::GuestAddress start, gmem::GuestAddress end) {
  return {.range = {start, end - start}, .bindings = {}, .cells = {}, .pages = {}};
}

// Puts a hole before each piece, and after the last one, where there is room.
void AddHoles(gmem::GuestAddress end, std::vector<Piece>* pieces) {
  std::vector<Piece> result;
  gmem::GuestAddress at;
  for (Piece& piece : *pieces) {
    if (piece.range.start > at) result.push_back(MakeHole(at, piece.range.start));
    at = piece.range.end();
    result.push_back(std::move(piece));
  }
  if (end > at) result.push_back(MakeHole(at, end));
  *pieces = std::move(result);
}

}  // namespace

const CellStyle& StyleOf(CellState state) {
  static constexpr CellStyle kStyles[kNrCellStates] = {
      {'.', "absent", "#dddddd", "38;5;245"},  {'-', "host", "#9ecae1", "38;5;74"},
      {'#', "lent", "#e6550d", "1;38;5;202"},  {'+', "partly lent", "#fdae6b", "38;5;215"},
      {'=', "shared", "#74c476", "38;5;71"},   {'!', "leaked", "#000000", "1;7"},
      {'?', "unknown", "#bcbddc", "38;5;140"}, {' ', "unbound", "#ffffff", "0"},
  };
  return kStyles[static_cast<size_t>(state)];
}

gmem::ByteSize Piece::BoundSize() const {
  gmem::ByteSize size;
  for (const gmem::Binding& binding : bindings) {
    size = gmem::ByteSize(size.value() + binding.range.size.value());
  }
  return size;
}

std::string PieceText(const Picture& picture, const Piece& piece) {
  if (piece.is_hole()) return absl::StrCat("hole, ", HoleText(picture, piece));
  if (piece.bindings.size() > 1) {
    return absl::StrCat(piece.bindings.size(), " bindings, ", ToString(piece.BoundSize()), " of ",
                        ToString(piece.range.size));
  }
  const gmem::Binding& binding = piece.bindings.front();
  std::string text = absl::StrCat(
      ModeName(binding.mode), ", ", ToString(piece.range.size), ", guestmem ", binding.memory_id,
      NameText(picture.memory_names.at(binding.memory_id)), " offset ", ToString(binding.offset));
  if (binding.policy) absl::StrAppend(&text, ", policy ", gmem::ToString(*binding.policy));
  return text;
}

std::string HoleText(const Picture& picture, const Piece& hole) {
  return &hole == &picture.pieces.back() ? "to the end" : ToString(hole.range.size);
}

std::string HoldersText(const std::vector<Holder>& holders) {
  if (holders.empty()) return "no process that you may look into";
  std::string text;
  pid_t last = 0;
  for (const Holder& holder : holders) {
    if (holder.pid != last) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", tools::Printable(holder.command), "[",
                      holder.pid, "]:");
    }
    absl::StrAppend(&text, " ", holder.fd);
    last = holder.pid;
  }
  return text;
}

absl::StatusOr<Picture> TakePicture(gmem::Monitor& monitor, uint32_t vm_id, size_t width) {
  Picture picture;
  const auto vm = monitor.FindVm(vm_id);
  if (!vm.ok()) return vm.status();
  picture.vm = *vm;
  const auto bindings = monitor.Bindings(vm_id);
  if (!bindings.ok()) return bindings.status();
  ChoosePieces(*bindings, width, &picture);

  const auto states = monitor.GuestMemories();
  if (!states.ok()) return states.status();
  for (const gmem::GuestMemoryState& state : *states) picture.memory_names[state.id] = state.name;

  picture.vm_holders = FindVmHolders()[vm_id];
  HoldersById holders = FindMemoryHolders();
  Memories memories;
  for (const gmem::VmBinding& item : *bindings) {
    const uint64_t id = item.binding.memory_id;
    const auto [memory, is_new] = memories.try_emplace(id);
    if (!is_new) continue;
    // The guestmem may be newer than the list of names.
    picture.memory_names.try_emplace(id);
    std::vector<Holder>& its = picture.memory_holders[id];
    its = std::move(holders[id]);
    if (auto found = TakeGuestMemory(its, id); found.ok()) {
      memory->second.emplace(*std::move(found));
    }
  }
  for (Piece& piece : picture.pieces) FillCells(memories, picture.cell_size, &piece);
  AddHoles(gmem::GuestAddress(uint64_t{1} << std::clamp(vm->guest_address_bits, 12, 63)),
           &picture.pieces);
  return picture;
}

}  // namespace gmemctl
