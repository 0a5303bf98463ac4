// SPDX-License-Identifier: MIT OR Apache-2.0
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

// The state of most pages of a cell; kPartlyLent if some pages are lent, but most aren't; kUnbound
// if nothing is bound there.
enum class CellState { kAbsent, kHost, kLent, kPartlyLent, kShared, kLeaked, kUnknown, kUnbound };
inline constexpr size_t kNrCellStates = 8;
// A picture explains these; a cell without a binding is empty.
inline constexpr size_t kNrNamedStates = 7;

struct CellStyle {
  char character;
  const char* name;
  // In SVG; then the parameters of a terminal's "select graphic rendition".
  const char* colour;
  const char* terminal;
};
const CellStyle& StyleOf(CellState state);

// Some bindings with the cells from the first to the last one, or the hole between two pieces.
struct Piece {
  gmem::GuestRange range;
  // One, unless there are too many; none for a hole.
  std::vector<gmem::Binding> bindings;
  std::vector<CellState> cells;
  // All pages of the bindings by state; empty if no process has one of their guestmems open.
  std::optional<gmem::PageCounts> pages;

  bool is_hole() const { return bindings.empty(); }
  gmem::ByteSize BoundSize() const;
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

// "lend, 64 KiB, guestmem 3 "ram" offset 0x0", or "900 bindings, 1 GiB of 4 GiB".
std::string PieceText(const Picture& picture, const Piece& piece);

// Chooses the size of a cell so that the picture fits a screen or two, however large the VM is.
// Puts neighbouring bindings into one piece if there are many.
absl::StatusOr<Picture> TakePicture(gmem::Monitor& monitor, uint32_t vm_id, size_t width);

// An SVG document.
std::string ToSvg(const Picture& picture, size_t width);

}  // namespace gmemctl

#endif  // GMEMCTL_PICTURE_H_
