// SPDX-License-Identifier: Apache-2.0
// What the user sees: the guest's console line by line, with what gmem did meanwhile
// and what the VMM has to say between its lines.
#ifndef GMEM_TOOLS_MINIVMM_CONSOLE_H_
#define GMEM_TOOLS_MINIVMM_CONSOLE_H_

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace minivmm {

// Thread-safe.
class Console {
 public:
  // What gmem did since the last call, a line each. Called before each line that is
  // printed, with the console's lock held.
  using Events = std::function<std::vector<std::string>()>;

  explicit Console(Events events) : events_(std::move(events)) {}

  // A byte from the guest.
  void Put(char byte);

  // A line of the VMM's own.
  void Print(absl::string_view line);

  // The first line of the guest, of those that nobody has waited for yet, that begins
  // with @prefix; earlier ones are forgotten. Waits until Close(), and then says why the
  // guest can't print it any more.
  absl::StatusOr<std::string> Expect(absl::string_view prefix);

  // The guest has ended and prints no more.
  void Close(const absl::Status& why);

 private:
  void PrintLocked(absl::string_view source, absl::string_view line)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  absl::Mutex lock_;
  const Events events_;
  std::string line_ ABSL_GUARDED_BY(lock_);
  std::deque<std::string> lines_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
  absl::Status why_ ABSL_GUARDED_BY(lock_);
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_CONSOLE_H_
