// SPDX-License-Identifier: Apache-2.0
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

/// Descriptors under names, for a VMM that replaces its program and keeps the guest's
/// memory: guest_memfds, gmem's own descriptors, any other. Two ways lead from one
/// program to the next, and Inherit() is the end of both:
///
/// - exec(): Save() all, PrepareExec(), and hand its string to the new program as a
///   variable of its environment.
/// - The service manager (systemd) keeps them while the service restarts: see FdStore.
///
/// A name has 1 to 255 characters, printable ASCII without ':' (systemd's rule).
///
/// Of a guest_memfd, what survives is its content: KVM serves the VM it belongs to only
/// in the process that made it, before exec(). GuestMemfd::Adopt() says what the new
/// program can do with it.
///
/// Move-only.
///
/// @par Thread safety
/// Thread-safe: Find(), size().\n
/// Needs exclusive access: Save(), Adopt(), Take(), PrepareExec(), CancelExec(), moving,
/// destroying.\n
/// Inherit() needs a process in which no other thread opens or closes descriptors yet.
class FdTable {
 public:
  /// The variable that PrepareExec() sets.
  static constexpr char kVariable[] = "GMEM_FDS";

  /// As getenv(); nullptr for what isn't set.
  using Environment = absl::FunctionRef<const char*(const char* name)>;

  FdTable() = default;

  /// The descriptors that this program was started with: `FdTable::Inherit(getenv)`, once,
  /// before anything else is opened. They are close-on-exec from here on. Variables that
  /// the service manager meant for another process (LISTEN_PID) are none of ours. Several
  /// may have one name if they come from the service manager. What it gave to a program
  /// that then ran this one by exec() counts as that program has handed it on.
  ///
  /// $GMEM_FDS says, too, which process it is for: that of this program's children is none
  /// of theirs, although they inherit it.
  ///
  /// InvalidArgument, and no descriptor touched, if a variable isn't what it should be or
  /// names a descriptor that isn't open or is standard input, output or error.
  static absl::StatusOr<FdTable> Inherit(Environment environment);

  /// Keeps a duplicate of @p fd. AlreadyExists (EEXIST), InvalidArgument: the name.
  absl::Status Save(absl::string_view name, int fd);

  /// Keeps @p fd itself, under the number that it has; it is close-on-exec from here on.
  /// AlreadyExists (EEXIST); InvalidArgument: the name, or @p fd is standard input, output
  /// or error; FailedPrecondition (EBADF): it isn't open. On an error it is closed.
  absl::Status Adopt(absl::string_view name, UniqueFd fd);

  /// The (first) descriptor of that name, still the table's; -1 if there is none.
  int Find(absl::string_view name) const;

  /// The same, given away. NotFound (ENOENT).
  absl::StatusOr<UniqueFd> Take(absl::string_view name);

  size_t size() const { return entries_.size(); }

  /// Lets all descriptors survive exec(), and gives the string for its environment:
  /// "GMEM_FDS=PID:5=ram0:6=ram1". Call it right before exec(): another thread's fork() and
  /// exec() would take them along, too. And in the process that calls exec(), which keeps
  /// its number, the PID: what the new program's children do with the variable is ignored.
  /// On an error, all are close-on-exec, as after CancelExec().
  absl::StatusOr<std::string> PrepareExec();

  /// After an exec() that failed: close-on-exec again.
  absl::Status CancelExec();

 private:
  using Entry = std::pair<std::string, UniqueFd>;

  absl::Status CheckNew(absl::string_view name) const;
  absl::Status SetCloseOnExec(bool on);

  std::vector<Entry> entries_;
};

}  // namespace gmem::kvm

#endif  // GMEM_KVM_FD_TABLE_H_
