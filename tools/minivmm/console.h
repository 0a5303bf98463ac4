// SPDX-License-Identifier: Apache-2.0
// What the user sees: the guest's console line by line, and between its lines what gmem
// did meanwhile and what the VMM has to say.
#ifndef GMEM_TOOLS_MINIVMM_CONSOLE_H_
#define GMEM_TOOLS_MINIVMM_CONSOLE_H_

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "gmem/monitor.h"

namespace minivmm {

// A line for each event, but events of one kind that follow each other share one: a
// guest that boots takes thousands of pages, one at a time.
std::vector<std::string> Describe(absl::Span<const gmem::Event> events);

// Thread-safe.
class Console {
 public:
  // The events are all of this host's. Without CAP_SYS_ADMIN there are none.
  Console();

  // A byte from the guest.
  void Put(char byte);

  // A line of the VMM's own.
  void Print(absl::string_view line);

  // Takes the last line of the guest that begins with "guest: ", what its program prints;
  // waits until one has come that begins with @prefix.
  std::string Await(absl::string_view prefix);

  // The guest prints no more: waiting for it ends the VMM.
  void Close();

 private:
  void PrintLocked(absl::string_view source, absl::string_view line)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void PrintEvents() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  absl::Mutex lock_;
  gmem::Monitor monitor_ ABSL_GUARDED_BY(lock_);
  std::string line_ ABSL_GUARDED_BY(lock_), answer_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
};

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_CONSOLE_H_
