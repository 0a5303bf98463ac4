// SPDX-License-Identifier: MIT OR Apache-2.0
// The parts that the demonstrations on all machines share: checks, and the commands of the guest's
// program.
#ifndef GMEM_TOOLS_MINIVMM_DEMO_H_
#define GMEM_TOOLS_MINIVMM_DEMO_H_

#include <cstdint>
#include <iostream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "base/exit_status.h"
#include "base/program.h"
#include "base/text.h"
#include "console.h"
#include "gmem/device.h"
#include "gmem/types.h"
#include "host.h"
#include "or_die.h"

namespace minivmm {

// Prints checks and counts those that fail.
class Checks {
 public:
  // Both must outlive the object.
  Checks(const gmem::Device* device, Console* console)
      : device_(device), console_(console), before_(OrDie(device->Stats())) {}

  void operator()(bool ok, absl::string_view text) {
    console_->Print(absl::StrFormat("   %-75s %s", text, ok ? "ok" : "FAILED"));
    if (!ok) ++failures_;
  }

  // Compares the module's counters with those at the beginning.
  void NothingIsLeft() {
    const gmem::DeviceStats after = OrDie(device_->Stats());
    (*this)(after.vms == before_.vms && after.guest_memories == before_.guest_memories &&
                after.bindings == before_.bindings,
            absl::StrCat("as before: ", tools::Counted(after.vms, "VM"), ", ",
                         tools::Counted(after.guest_memories, "guestmem"), ", ",
                         tools::Counted(after.bindings, "binding")));
    (*this)(after.lent_pages == before_.lent_pages && after.leaked_pages == before_.leaked_pages,
            absl::StrCat(tools::Counted(after.lent_pages, "page"), " lent, ", after.leaked_pages,
                         " leaked"));
  }

  int failures() const { return failures_; }

 private:
  const gmem::Device* const device_;
  Console* const console_;
  const gmem::DeviceStats before_;
  int failures_ = 0;
};

// The guest's program, which reads and writes memory on commands.
template <typename Machine>
class GuestProgram {
 public:
  // Both must outlive the object.
  GuestProgram(Machine* machine, Console* console) : machine_(machine), console_(console) {}

  // Returns the answer.
  std::string Type(const std::string& line) {
    console_->Print(absl::StrCat("  typed | ", line));
    machine_->Type(line);
    return console_->Await("guest: ");
  }
  uint64_t Read(gmem::GuestAddress address) {
    return LastNumber(Type(absl::StrCat("read ", gmem::ToString(address))));
  }
  void Write(gmem::GuestAddress address, uint32_t value) {
    Type(absl::StrCat("write ", gmem::ToString(address), " ", value));
  }

 private:
  Machine* const machine_;
  Console* const console_;
};

// Runs a demonstration, which returns the number of failed checks. Returns the exit status.
inline absl::StatusOr<int> RunDemo(tools::Words words,
                                   int (*demo)(const gmem::Device& device, const char* kernel,
                                               const char* initramfs)) {
  if (words.size() != 2) {
    return absl::InvalidArgumentError("give a kernel and an initramfs: see --help");
  }
  CatchSigbus();
  const auto device = gmem::Device::Open();
  if (!device.ok()) return device.status();
  const int failures = demo(*device, words[0], words[1]);
  std::cout << (failures == 0 ? "\nAll checks passed.\n" : "\nSOME CHECKS FAILED\n");
  return failures == 0 ? 0 : tools::kExitFailed;
}

}  // namespace minivmm

#endif  // GMEM_TOOLS_MINIVMM_DEMO_H_
