// SPDX-License-Identifier: Apache-2.0
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

constexpr uint64_t kMaxRows = 16;

CellState StateOf(const gmem::PageCounts& pages) {
  // The first state wins a draw: leaked and lent pages matter more than the others.
  const std::array<std::pair<uint64_t, CellState>, 5> counts = {{
      {pages.leaked, CellState::kLeaked},
      {pages.lent, CellState::kLent},
      {pages.shared, CellState::kShared},
      {pages.host, CellState::kHost},
      {pages.absent, CellState::kAbsent},
  }};
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

gmem::ByteSize ChooseCellSize(const std::vector<gmem::VmBinding>& bindings, size_t width) {
  uint64_t largest = 0;
  for (const gmem::VmBinding& binding : bindings) {
    largest = std::max(largest, binding.binding.range.size.value());
  }
  auto size = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  while (size < largest && largest / size > width * kMaxRows) size *= 2;
  return gmem::ByteSize(size);
}

Piece MakePiece(const gmem::Binding& binding, const std::optional<gmem::GuestMemory>& memory,
                gmem::ByteSize cell_size) {
  Piece piece = {.range = binding.range, .binding = binding, .cells = {}, .pages = {}};
  gmem::PageCounts total;
  bool known = memory.has_value();
  for (uint64_t at = 0; at < binding.range.size.value(); at += cell_size.value()) {
    const gmem::ByteSize size(std::min(cell_size.value(), binding.range.size.value() - at));
    CellState state = CellState::kUnknown;
    if (memory) {
      const auto pages = memory->Query({binding.offset + gmem::ByteSize(at), size});
      if (pages.ok()) {
        state = StateOf(*pages);
        total.absent += pages->absent;
        total.host += pages->host;
        total.lent += pages->lent;
        total.shared += pages->shared;
        total.leaked += pages->leaked;
      } else {
        known = false;
      }
    }
    piece.cells.push_back(state);
  }
  if (known) piece.pages = total;
  return piece;
}

}  // namespace

const CellStyle& StyleOf(CellState state) {
  static constexpr CellStyle kStyles[kNrCellStates] = {
      {'.', "absent", "#dddddd"}, {'-', "host", "#9ecae1"},   {'#', "lent", "#e6550d"},
      {'=', "shared", "#74c476"}, {'!', "leaked", "#000000"}, {'?', "unknown", "#bcbddc"},
  };
  return kStyles[static_cast<size_t>(state)];
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
  picture.cell_size = ChooseCellSize(*bindings, width);

  const auto states = monitor.GuestMemories();
  if (!states.ok()) return states.status();
  for (const gmem::GuestMemoryState& state : *states) picture.memory_names[state.id] = state.name;

  picture.vm_holders = FindVmHolders()[vm_id];
  HoldersById holders = FindMemoryHolders();
  std::map<uint64_t, std::optional<gmem::GuestMemory>> memories;
  gmem::GuestAddress at;
  for (const gmem::VmBinding& item : *bindings) {
    const gmem::Binding& binding = item.binding;
    const auto [memory, is_new] = memories.try_emplace(binding.memory_id);
    if (is_new) {
      // The guestmem may be newer than the list of names.
      picture.memory_names.try_emplace(binding.memory_id);
      std::vector<Holder>& its = picture.memory_holders[binding.memory_id];
      its = std::move(holders[binding.memory_id]);
      if (auto found = TakeGuestMemory(its, binding.memory_id); found.ok()) {
        memory->second.emplace(*std::move(found));
      }
    }
    if (binding.range.start > at) {
      picture.pieces.push_back(
          {.range = {at, binding.range.start - at}, .binding = {}, .cells = {}, .pages = {}});
    }
    picture.pieces.push_back(MakePiece(binding, memory->second, picture.cell_size));
    at = binding.range.end();
  }
  const gmem::GuestAddress end(uint64_t{1} << std::clamp(vm->guest_address_bits, 12, 63));
  if (end > at) {
    picture.pieces.push_back({.range = {at, end - at}, .binding = {}, .cells = {}, .pages = {}});
  }
  return picture;
}

}  // namespace gmemctl
