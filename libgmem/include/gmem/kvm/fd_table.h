// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef GMEM_KVM_FD_TABLE_H_
#define GMEM_KVM_FD_TABLE_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "gmem/unique_fd.h"

namespace gmem::kvm {

/// Descriptors under names, for a VMM that replaces its program and keeps the guest's memory:
/// guest_memfds, gmem's own descriptors, and any others. There are two ways to pass descriptors to
/// the new program, which calls Inherit() in both cases:
///
/// - exec(): Save() all descriptors, call PrepareExec(), and put its string into the environment of
///   the new program.
/// - The service manager (systemd) keeps the descriptors while the service restarts: see FdStore.
///
/// A name has 1 to 255 characters, printable ASCII without ':' (systemd's rule).
///
/// Only the content of a guest_memfd survives: KVM serves the VM of the guest_memfd only in the
/// process that made the VM, and only before exec(). GuestMemfd::Adopt() says how the new program
/// can use the file.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Find(), size().\n
/// Needs exclusive access: Save(), Adopt(), Take(), PrepareExec(), CancelExec(), moving,
/// destroying.\n
/// Call Inherit() before any other thread opens or closes descriptors.
class FdTable {
 public:
  /// The environment variable for PrepareExec()'s string.
  static constexpr char kVariable[] = "GMEM_FDS";

  /// Looks up a variable as getenv() does; nullptr if it isn't set.
  using Environment = absl::FunctionRef<const char*(const char* name)>;

  FdTable() = default;

  /// Returns the descriptors that this program was started with. Call `FdTable::Inherit(getenv)`
  /// once, before the program opens any descriptor. The descriptors are close-on-exec afterwards.
  /// Several descriptors may have the same name if they come from the service manager.
  ///
  /// $GMEM_FDS and $LISTEN_PID name the process that the descriptors are for. Inherit() ignores
  /// variables for another process: children of this program have the variables, but the
  /// descriptors aren't for them. A program that the service manager started may have run this
  /// program by exec(). Then a descriptor that $GMEM_FDS lists has only its name there, and
  /// descriptors that the earlier program closed don't count.
  ///
  /// InvalidArgument if a variable is malformed, or names a descriptor that isn't open or is
  /// standard input, output or error. Inherit() changes no descriptor then.
  static absl::StatusOr<FdTable> Inherit(Environment environment);

  /// Keeps a duplicate of @p fd. AlreadyExists (EEXIST) if the table has the name, InvalidArgument
  /// if the name isn't valid.
  absl::Status Save(absl::string_view name, int fd);

  /// Keeps @p fd itself, under its present number, and makes it close-on-exec. AlreadyExists
  /// (EEXIST) if the table has the name; InvalidArgument if the name isn't valid, or if @p fd is
  /// standard input, output or error; FailedPrecondition (EBADF) if @p fd isn't open. On an error,
  /// Adopt() closes @p fd.
  absl::Status Adopt(absl::string_view name, UniqueFd fd);

  /// Returns the first descriptor of that name, which the table still owns; -1 if there is none.
  int Find(absl::string_view name) const;

  /// Moves the first descriptor of that name to the caller. NotFound (ENOENT) if there is none.
  absl::StatusOr<UniqueFd> Take(absl::string_view name);

  size_t size() const { return entries_.size(); }

  /// Makes all descriptors survive exec(), and returns the string for the environment of the new
  /// program: "GMEM_FDS=PID:5=ram0:6=ram1". Call it right before exec(), because a fork() and
  /// exec() of another thread would leak the descriptors to that program. Call it in the process
  /// that calls exec(): that process keeps its PID, and the new program's children ignore the
  /// variable. On an error, all descriptors are close-on-exec, as after CancelExec().
  absl::StatusOr<std::string> PrepareExec();

  /// Makes all descriptors close-on-exec again, after an exec() that failed.
  absl::Status CancelExec();

 private:
  using Entry = std::pair<std::string, UniqueFd>;

  absl::Status CheckNew(absl::string_view name) const;
  absl::Status SetCloseOnExec(bool on);

  std::vector<Entry> entries_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_FD_TABLE_H_
