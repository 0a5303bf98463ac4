// SPDX-License-Identifier: MIT OR Apache-2.0
// minivmm KERNEL INITRAMFS: boots an unmodified Linux on lent memory, then unplugs, shares and
// lends memory while Linux runs. Prints its checks, with the guest's console and gmem's events in
// between. Exits with 1 if a check failed.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/program.h"
#include "console.h"
#include "demo.h"
#include "events.h"
#include "gmem/device.h"
#include "guest_ram.h"
#include "host.h"
#include "linux_boot.h"
#include "machine.h"
#include "or_die.h"

namespace minivmm {
namespace {

using gmem::GuestAddress;

constexpr gmem::ByteSize kPageSize = gmem::KiB(4);

// Linux must use the serial console, skip the devices that this machine doesn't have, and skip
// steps that take long in an emulated machine. It ends by a reset through the keyboard controller,
// which has no other function here. idle=poll: if QEMU emulates SVM, a CPU that halts was seen to
// wait forever for the serial port's interrupt.
constexpr char kCommandLine[] =
    "console=ttyS0 quiet reboot=k panic=-1 idle=poll pci=off initcall_blacklist=i8042_init "
    "nokaslr mitigations=off init_on_alloc=0 audit=0 lsm=capability tsc=reliable no_timer_check";

// Returns the number of pages of the mapping for which this process has page table entries.
uint64_t CountMapped(const gmem::Mapping& mapping) {
  const gmem::UniqueFd fd(OrDie(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), "pagemap"));
  std::vector<uint64_t> entries(mapping.size() / kPageSize.value());
  const uint64_t first = reinterpret_cast<uintptr_t>(mapping.data()) / kPageSize.value();
  OrDie(pread(fd.get(), entries.data(), entries.size() * sizeof(uint64_t),
              static_cast<off_t>(first * sizeof(uint64_t))),
        "pagemap");
  return std::ranges::count_if(entries, [](uint64_t entry) { return entry >> 63; });
}

// Returns the number of failed checks.
int Demo(const gmem::Device& device, const char* kernel, const char* initramfs) {
  Events events;
  Console console([&events] { return events.Read(); });
  Checks check(&device, &console);

  console.Print("\n1. Boot Linux on lent memory");
  auto ram = std::make_unique<GuestRam>(device);
  const bool is_live = ram->window().kind() == gmem::WindowKind::kLive;
  console.Print(is_live ? "   The window is live: one mapping that follows the bindings."
                        : "   The window is paged: a mapping for each binding.");
  // The host may write to a page of a lent binding until the guest uses the page.
  OrDie(LoadLinux(ram->host().span().first(GuestRam::kRam.value()), MapFile(kernel).span(),
                  MapFile(initramfs).span(), kCommandLine));
  const gmem::PageCounts loaded = OrDie(ram->memory().Query());
  check(loaded.lent == 0 && CountMapped(ram->host()) == loaded.host,
        absl::StrCat("loaded by the host: ", loaded.host, " pages, all mapped here, none lent"));

  auto machine = std::make_unique<Machine>(ram.get(), &console);
  // A page of Linux's RAM that the guest's program uses.
  const GuestAddress own_page(LastNumber(console.Await("guest: page ")));
  const gmem::PageCounts booted = OrDie(ram->memory().Query());
  check(booted.lent > loaded.host,
        absl::StrCat("Linux is up; MEM_QUERY: ", booted.lent, " pages lent, ", booted.host,
                     " host, ", booted.absent, " absent"));
  const uint64_t mapped = CountMapped(ram->host());
  check(mapped == booted.host,
        absl::StrCat("the host's mapping has ", mapped, " pages: the lent pages are gone from it"));

  // From now on, the guest's program reads and writes memory on command.
  GuestProgram guest(machine.get(), &console);
  auto last_fault = [&] {
    const gmem::FaultReport report = OrDie(ram->vm().Faults());
    return report.faults.empty() ? gmem::Fault() : report.faults.back();
  };

  console.Print("\n2. Unplug a page of RAM while a program counts in it");
  guest.Type(absl::StrCat("count ", gmem::ToString(own_page)));
  const uint64_t counted = guest.Read(own_page);
  ram->Unplug({own_page, kPageSize});
  // The counting process and the one that answers share a CPU: read until the counter has had its
  // turn.
  uint64_t now = guest.Read(own_page);
  for (int i = 1; i < 20 && now == counted; ++i) now = guest.Read(own_page);
  gmem::Fault fault = last_fault();
  check(fault.page == own_page && fault.reason == gmem::FaultReason::kUnbound,
        absl::StrCat("KVM_RUN: EFAULT; VM_FAULTS: ", gmem::ToString(fault.page),
                     " is unbound; bound on demand"));
  check(now > counted, absl::StrCat("the program counts on: ", counted, ", then ", now));

  console.Print("\n3. Plug memory at an address that had none, when Linux touches it");
  const gmem::GuestRange pool = {GuestRam::kPoolStart, gmem::MiB(1)};
  const gmem::ByteRange first_page = {gmem::ByteOffset(pool.start.value()), kPageSize};
  auto* const host_word = reinterpret_cast<volatile uint32_t*>(ram->host().span(first_page).data());
  auto pages = [&] { return OrDie(ram->memory().Query(first_page)); };
  guest.Write(pool.start, 41);
  fault = last_fault();
  check(fault.page == pool.start && fault.write,
        absl::StrCat("a write to ", gmem::ToString(fault.page), " was refused, then bound"));
  check(guest.Read(pool.start) == 41 && pages().lent == 1, "it holds 41 and is lent");

  console.Print("\n4. Share a range that was lent");
  ram->Unplug(pool);
  ram->Plug(pool, gmem::MapMode::kShare);
  guest.Write(pool.start, 42);
  check(Peek(host_word) == 42u, "the host reads 42, which the guest wrote");
  check(Poke(host_word, 43) && guest.Read(pool.start) == 43,
        "the guest reads 43, which the host wrote");
  check(pages().shared == 1, "MEM_QUERY: shared");

  console.Print("\n5. Lend it again: the VM's policy decides about the host's access");
  ram->Unplug(pool);
  ram->Plug(pool, gmem::MapMode::kLend);
  OrDie(ram->vm().SetPolicy(gmem::ReclaimPolicy::kDeny));
  guest.Write(pool.start, 44);
  check(!Peek(host_word), "deny:  the host gets SIGBUS");
  OrDie(ram->vm().SetPolicy(gmem::ReclaimPolicy::kAllow));
  check(Peek(host_word) == 44u, "allow: the host reads 44, which the guest wrote");
  check(pages().host == 1, "       the page is the host's again");
  check(guest.Read(pool.start) == 44 && pages().lent == 1,
        "       the guest reads 44, and it is lent again");

  console.Print("\n6. Power off");
  const std::string answer = guest.Type("poweroff");
  machine->Wait();
  check(answer == "guest: bye", "the guest says bye and turns the machine off");
  machine.reset();
  ram.reset();
  check.NothingIsLeft();
  return check.failures();
}

absl::StatusOr<int> Run(tools::Words words) { return RunDemo(words, Demo); }

}  // namespace
}  // namespace minivmm

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "minivmm",
       .run = minivmm::Run,
       .usage = "minivmm KERNEL INITRAMFS",
       .summary = "boots Linux on lent memory, and unplugs, shares and lends memory meanwhile"},
      argc, argv);
}
