// SPDX-License-Identifier: Apache-2.0
// minivmm KERNEL INITRAMFS [PARAMETER]...: boots an unmodified Linux on lent memory, then unplugs,
// shares and lends memory while it runs. Prints what it checks, with the guest's
// console and gmem's events in between. Exits with 1 if a check failed.
#include <fcntl.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "console.h"
#include "events.h"
#include "gmem/device.h"
#include "guest.h"
#include "machine.h"
#include "status_macros.h"

namespace minivmm {
namespace {

using gmem::GuestAddress;
using gmem::GuestRange;
using gmem::MapMode;

constexpr gmem::ByteSize kRam = gmem::MiB(128), kPool = gmem::MiB(4), kPage = gmem::KiB(4);
constexpr absl::Duration kTimeLimit = absl::Minutes(3), kDemandTime = absl::Seconds(60);

// Linux is to use the serial console, and spare itself what this machine hasn't got
// and what takes long in an emulated one. It ends by a reset through the keyboard
// controller, which is all that there is of one. idle=poll: where SVM is emulated by
// QEMU, a CPU that halts was seen to wait forever for the serial port's interrupt.
constexpr char kCommandLine[] =
    "console=ttyS0 quiet reboot=k panic=-1 idle=poll pci=off initcall_blacklist=i8042_init "
    "nokaslr mitigations=off init_on_alloc=0 audit=0 lsm=capability tsc=reliable no_timer_check";

// How often to look whether the guest's program has counted on.
constexpr int kCountTries = 20;

thread_local sigjmp_buf touch_env;

void OnSigbus(int) { siglongjmp(touch_env, 1); }

// Touch the word at @address, as a host. Nothing, or false, if that raised SIGBUS.
std::optional<uint32_t> Peek(const volatile uint32_t* address) {
  if (sigsetjmp(touch_env, 1)) return std::nullopt;
  return *address;
}
bool Poke(volatile uint32_t* address, uint32_t value) {
  if (sigsetjmp(touch_env, 1)) return false;
  *address = value;
  return true;
}

// How many pages of the mapping does this process have page table entries for?
absl::StatusOr<uint64_t> CountMapped(const gmem::Mapping& mapping) {
  gmem::UniqueFd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::vector<uint64_t> entries(mapping.size() / kPage.value());
  const size_t bytes = entries.size() * sizeof(entries[0]);
  const auto first = reinterpret_cast<uintptr_t>(mapping.data()) / kPage.value();
  if (!fd || pread(fd.get(), entries.data(), bytes,
                   static_cast<off_t>(first * sizeof(entries[0]))) != static_cast<ssize_t>(bytes)) {
    return absl::ErrnoToStatus(errno, "/proc/self/pagemap");
  }
  constexpr uint64_t kPresent = uint64_t{1} << 63;
  return std::count_if(entries.begin(), entries.end(),
                       [](uint64_t entry) { return entry & kPresent; });
}

class Demo {
 public:
  explicit Demo(const gmem::Device& device)
      : device_(device), events_(Events::Subscribe()), console_([this] { return TakeEvents(); }) {
    if (!events_.ok()) {
      console_.Print(absl::StrCat("gmem's events aren't shown: ", events_.status().ToString()));
    }
  }

  // OK if everything could be tried; Failures() says how many checks failed.
  absl::Status Run(const Guest::Options& options);
  int Failures() const { return failures_; }

 private:
  absl::Status Boot(const Guest::Options& options);
  absl::Status UnplugWhatLinuxUses();
  absl::Status PlugOnDemand();
  absl::Status Share();
  absl::Status LendAgain();
  absl::Status PowerOff();
  absl::Status TearDown(const gmem::DeviceStats& before);

  std::vector<std::string> TakeEvents() {
    return events_.ok() ? events_->Take() : std::vector<std::string>();
  }
  void Step(absl::string_view title);
  void Check(bool ok, absl::string_view text);
  // What the guest's program does, and the word that it found.
  absl::StatusOr<uint32_t> GuestRead(GuestAddress address);
  absl::Status GuestWrite(GuestAddress address, uint32_t value);
  volatile uint32_t* HostWord(GuestAddress address) const {
    return reinterpret_cast<volatile uint32_t*>(guest_->host().data() + address.value());
  }
  absl::StatusOr<gmem::PageCounts> Count(GuestAddress page) const {
    return guest_->memory().Query({gmem::ByteOffset(page.value()), kPage});
  }

  const gmem::Device& device_;
  absl::StatusOr<Events> events_;
  Console console_;
  std::unique_ptr<Guest> guest_;
  // A page of Linux's RAM that the guest's program uses.
  GuestAddress own_page_;
  int step_ = 0, failures_ = 0;
};

void Demo::Step(absl::string_view title) {
  console_.Print(absl::StrCat("\n", ++step_, ". ", title));
}

void Demo::Check(bool ok, absl::string_view text) {
  console_.Print(absl::StrFormat("   %-75s %s", text, ok ? "ok" : "FAILED"));
  if (!ok) ++failures_;
}

absl::StatusOr<uint32_t> Demo::GuestRead(GuestAddress address) {
  MINIVMM_ASSIGN_OR_RETURN(std::string line,
                           guest_->Command(absl::StrCat("read ", gmem::ToString(address))));
  std::vector<std::string> words = absl::StrSplit(line, ' ');
  uint32_t value = 0;
  if (words.size() != 4 || words[1] != gmem::ToString(address) || words[2] != "holds" ||
      !absl::SimpleAtoi(words[3], &value)) {
    return absl::InternalError(absl::StrCat("the guest answered \"", line, "\""));
  }
  return value;
}

absl::Status Demo::GuestWrite(GuestAddress address, uint32_t value) {
  MINIVMM_ASSIGN_OR_RETURN(std::string line, guest_->Command(absl::StrCat(
                                                 "write ", gmem::ToString(address), " ", value)));
  if (line != absl::StrCat("guest: wrote ", value, " to ", gmem::ToString(address))) {
    return absl::InternalError(absl::StrCat("the guest answered \"", line, "\""));
  }
  return absl::OkStatus();
}

absl::Status Demo::Boot(const Guest::Options& options) {
  Step("Boot Linux on lent memory");
  MINIVMM_ASSIGN_OR_RETURN(guest_, Guest::Create(device_, options, &console_));
  MINIVMM_ASSIGN_OR_RETURN(gmem::PageCounts loaded, guest_->memory().Query());
  MINIVMM_ASSIGN_OR_RETURN(uint64_t mapped, CountMapped(guest_->host()));
  Check(loaded.lent == 0 && mapped == loaded.host,
        absl::StrCat("loaded by the host: ", loaded.host, " pages, all mapped here, none lent"));

  guest_->Start();
  MINIVMM_ASSIGN_OR_RETURN(std::string line, console_.Expect("guest: page "));
  uint64_t own_page = 0;
  if (!absl::SimpleHexAtoi(line.substr(line.rfind(' ') + 1), &own_page) ||
      own_page >= kRam.value()) {
    return absl::InternalError(absl::StrCat("the guest printed \"", line, "\""));
  }
  own_page_ = GuestAddress(own_page);

  MINIVMM_ASSIGN_OR_RETURN(gmem::PageCounts pages, guest_->memory().Query());
  Check(pages.lent > loaded.host,
        absl::StrCat("Linux is up; MEM_QUERY: ", pages.lent, " pages lent, ", pages.host, " host, ",
                     pages.absent, " absent"));
  MINIVMM_ASSIGN_OR_RETURN(mapped, CountMapped(guest_->host()));
  Check(mapped == pages.host,
        absl::StrCat("the host's mapping has ", mapped, " pages: what is lent is gone from it"));
  return absl::OkStatus();
}

absl::Status Demo::UnplugWhatLinuxUses() {
  Step("Unplug a page of RAM while a program counts in it");
  MINIVMM_RETURN_IF_ERROR(
      guest_->Command(absl::StrCat("count ", gmem::ToString(own_page_))).status());
  MINIVMM_ASSIGN_OR_RETURN(uint32_t before, GuestRead(own_page_));
  MINIVMM_ASSIGN_OR_RETURN(uint64_t nr_pages, guest_->Unplug({own_page_, kPage}));
  MINIVMM_ASSIGN_OR_RETURN(gmem::Fault fault, guest_->WaitForDemand(kDemandTime));
  Check(nr_pages == 1 && fault.page == own_page_ && fault.reason == gmem::FaultReason::kUnbound,
        absl::StrCat("KVM_RUN: EFAULT; VM_FAULTS: ", gmem::ToString(fault.page),
                     " is unbound; bound on demand"));
  // The program and the one that reads share a CPU: look until it had its turn.
  uint32_t after = before;
  for (int i = 0; i < kCountTries && after == before; ++i) {
    MINIVMM_ASSIGN_OR_RETURN(after, GuestRead(own_page_));
  }
  Check(after > before, absl::StrCat("the program counts on: ", before, ", then ", after));
  return absl::OkStatus();
}

absl::Status Demo::PlugOnDemand() {
  Step("Plug memory that was never there, when Linux touches it");
  const GuestAddress page = guest_->pool();
  MINIVMM_RETURN_IF_ERROR(GuestWrite(page, 41));
  MINIVMM_ASSIGN_OR_RETURN(gmem::Fault fault, guest_->WaitForDemand(kDemandTime));
  Check(fault.page == page && fault.write,
        absl::StrCat("a write to ", gmem::ToString(fault.page), " was refused, then bound"));
  MINIVMM_ASSIGN_OR_RETURN(uint32_t value, GuestRead(page));
  MINIVMM_ASSIGN_OR_RETURN(gmem::PageCounts pages, Count(page));
  Check(value == 41 && pages.lent == 1, absl::StrCat("it holds ", value, " and is lent"));
  return absl::OkStatus();
}

absl::Status Demo::Share() {
  Step("Share a range that was lent");
  const GuestRange range = {guest_->pool(), gmem::MiB(1)};
  MINIVMM_RETURN_IF_ERROR(guest_->Unplug(range).status());
  MINIVMM_RETURN_IF_ERROR(guest_->Plug(range, MapMode::kShare));
  volatile uint32_t* const word = HostWord(range.start);

  MINIVMM_RETURN_IF_ERROR(GuestWrite(range.start, 42));
  std::optional<uint32_t> seen = Peek(word);
  Check(seen == 42u, "the host reads 42, which the guest wrote");
  const bool written = Poke(word, 43);
  MINIVMM_ASSIGN_OR_RETURN(uint32_t value, GuestRead(range.start));
  Check(written && value == 43, absl::StrCat("the guest reads ", value, ", the host wrote 43"));
  MINIVMM_ASSIGN_OR_RETURN(gmem::PageCounts pages, Count(range.start));
  Check(pages.shared == 1, "MEM_QUERY: shared");
  return absl::OkStatus();
}

absl::Status Demo::LendAgain() {
  Step("Lend it again: what the host may do is the VM's policy");
  const GuestRange range = {guest_->pool(), gmem::MiB(1)};
  MINIVMM_RETURN_IF_ERROR(guest_->Unplug(range).status());
  MINIVMM_RETURN_IF_ERROR(guest_->Plug(range, MapMode::kLend));
  MINIVMM_RETURN_IF_ERROR(guest_->vm().SetPolicy(gmem::ReclaimPolicy::kDeny));
  MINIVMM_RETURN_IF_ERROR(GuestWrite(range.start, 44));
  Check(!Peek(HostWord(range.start)), "deny:  the host gets SIGBUS");

  MINIVMM_RETURN_IF_ERROR(guest_->vm().SetPolicy(gmem::ReclaimPolicy::kAllow));
  Check(Peek(HostWord(range.start)) == 44u, "allow: the host reads 44, which the guest wrote");
  MINIVMM_ASSIGN_OR_RETURN(gmem::PageCounts pages, Count(range.start));
  Check(pages.host == 1, "       the page is the host's again");
  MINIVMM_ASSIGN_OR_RETURN(uint32_t value, GuestRead(range.start));
  MINIVMM_ASSIGN_OR_RETURN(pages, Count(range.start));
  Check(value == 44 && pages.lent == 1, "       the guest reads 44, and it is lent again");
  return absl::OkStatus();
}

absl::Status Demo::PowerOff() {
  Step("Power off");
  MINIVMM_RETURN_IF_ERROR(guest_->Command("poweroff").status());
  absl::Status ended = guest_->Wait();
  Check(ended.ok(), absl::StrCat("the guest ended: ", ended.ToString()));
  return absl::OkStatus();
}

absl::Status Demo::TearDown(const gmem::DeviceStats& before) {
  guest_.reset();
  MINIVMM_ASSIGN_OR_RETURN(gmem::DeviceStats now, device_.Stats());
  Check(now.vms == before.vms && now.guest_memories == before.guest_memories &&
            now.bindings == before.bindings,
        absl::StrCat("as before: ", now.vms, " VMs, ", now.guest_memories, " guestmems, ",
                     now.bindings, " bindings"));
  Check(now.lent_pages == before.lent_pages && now.leaked_pages == before.leaked_pages,
        absl::StrCat(now.lent_pages, " pages lent, ", now.leaked_pages, " leaked"));
  return absl::OkStatus();
}

absl::Status Demo::Run(const Guest::Options& options) {
  MINIVMM_ASSIGN_OR_RETURN(const gmem::DeviceStats before, device_.Stats());
  MINIVMM_RETURN_IF_ERROR(Boot(options));
  MINIVMM_RETURN_IF_ERROR(UnplugWhatLinuxUses());
  MINIVMM_RETURN_IF_ERROR(PlugOnDemand());
  MINIVMM_RETURN_IF_ERROR(Share());
  MINIVMM_RETURN_IF_ERROR(LendAgain());
  MINIVMM_RETURN_IF_ERROR(PowerOff());
  return TearDown(before);
}

int Main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s KERNEL INITRAMFS [KERNEL PARAMETER]...\n", argv[0]);
    return 2;
  }
  struct sigaction action = {};
  action.sa_handler = OnSigbus;
  sigaction(SIGBUS, &action, nullptr);
  Machine::InstallTickHandler();

  absl::StatusOr<gmem::Device> device = gmem::Device::Open();
  if (!device.ok()) {
    std::fprintf(stderr, "minivmm: %s\n", device.status().ToString().c_str());
    return 1;
  }
  Demo demo(*device);
  absl::Status status = demo.Run(
      {.kernel = argv[1],
       .initramfs = argv[2],
       .command_line = absl::StrCat(kCommandLine, " ", absl::StrJoin(argv + 3, argv + argc, " ")),
       .ram = kRam,
       .pool = kPool,
       .time_limit = kTimeLimit});
  if (!status.ok()) std::fprintf(stderr, "minivmm: %s\n", status.ToString().c_str());
  const bool passed = status.ok() && demo.Failures() == 0;
  std::printf("\n%s\n", passed ? "All checks passed." : "SOME CHECKS FAILED");
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace minivmm

int main(int argc, char** argv) { return minivmm::Main(argc, argv); }
