// SPDX-License-Identifier: Apache-2.0
// A guest address space, cut into pieces for a picture.
#ifndef GMEMCTL_PICTURE_H_
#define GMEMCTL_PICTURE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "find.h"
#include "gmem/guest_memory.h"
#include "gmem/monitor.h"
#include "gmem/types.h"

namespace gmemctl {

// The state of most pages of a cell.
enum class CellState { kAbsent, kHost, kLent, kShared, kLeaked, kUnknown };
inline constexpr size_t kNrCellStates = 6;

struct CellStyle {
  char character;
  const char* name;
  const char* colour;
};
const CellStyle& StyleOf(CellState state);

// A binding with its cells, or the hole between two bindings.
struct Piece {
  gmem::GuestRange range;
  // Empty for a hole.
  std::optional<gmem::Binding> binding;
  std::vector<CellState> cells;
  // All pages of the binding by state; empty if no process has the guestmem open.
  std::optional<gmem::PageCounts> pages;
};

struct Picture {
  gmem::VmState vm;
  // Bytes of one cell: a power of two, and at least a page.
  gmem::ByteSize cell_size;
  std::vector<Piece> pieces;
  // The processes that have the VM open, and those that have its guestmems open.
  std::vector<Holder> vm_holders;
  HoldersById memory_holders;
  // Has a name, perhaps an empty one, for each guestmem in memory_holders.
  std::map<uint64_t, std::string> memory_names;
};

// The size of a hole: "896 KiB"; for the last hole, "to the end".
std::string HoleText(const Picture& picture, const Piece& hole);

// The descriptors by process: "qemu[123]: 5 6, backend[200]: 7".
std::string HoldersText(const std::vector<Holder>& holders);

// Chooses the size of a cell so that the largest binding fills at most 16 rows of @width cells.
absl::StatusOr<Picture> TakePicture(gmem::Monitor& monitor, uint32_t vm_id, size_t width);

// An SVG document.
std::string ToSvg(const Picture& picture, size_t width);

}  // namespace gmemctl

#endif  // GMEMCTL_PICTURE_H_
