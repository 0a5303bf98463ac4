// SPDX-License-Identifier: MIT OR Apache-2.0
// Shows the main job of gmem, step by step, with a real KVM guest: lend memory to the guest, share
// memory with it, take memory back, unbind it while the guest runs. Each step prints its checks.
// Exits with 1 if a check failed.
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <thread>

#include "gmem_calls.h"
#include "testing/kvm_agent.h"

namespace {

using namespace gmem_tools;  // NOLINT: one program's own helpers

// The guest sees 64 MiB of addresses. The agent's code lies in the lent part.
constexpr uint64_t kGuestSize = 64 * kMiB;
constexpr uint32_t kCode = 0x1000;
constexpr uint64_t kLentAddr = 0, kLentSize = 4 * kMiB;
constexpr uint64_t kSharedAddr = 16 * kMiB, kSharedSize = 1 * kMiB;
constexpr uint64_t kMemSize = kLentSize + kSharedSize;
// Guest addresses of the pages that the steps use, one of each kind.
constexpr uint32_t kLentPage = 2 * kMiB;
constexpr uint32_t kSharedPage = kSharedAddr;

int failures = 0;
int step = 0;

void Step(const char* title) { std::printf("\n%d. %s\n", ++step, title); }

[[gnu::format(printf, 2, 3)]] bool Check(bool ok, const char* format, ...) {
  char text[160];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  std::printf("   %-72s %s\n", text, ok ? "ok" : "FAILED");
  if (!ok) ++failures;
  return ok;
}

sigjmp_buf touch_env;

void OnSigbus(int) { siglongjmp(touch_env, 1); }

// Returns the byte at @address, or -1 if the read raised SIGBUS.
int Peek(const volatile uint8_t* address) {
  if (sigsetjmp(touch_env, 1)) return -1;
  return *address;
}

// Does this process have a page table entry for @address?
bool Mapped(const void* address) {
  Fd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), "/proc/self/pagemap");
  uint64_t entry = 0;
  const auto where =
      static_cast<off_t>(reinterpret_cast<uintptr_t>(address) / kPage * sizeof(entry));
  if (pread(pagemap.get(), &entry, sizeof(entry), where) != sizeof(entry)) {
    Die("/proc/self/pagemap", errno);
  }
  return entry >> 63;
}

class Demo {
 public:
  Demo() : device_(OpenDevice()), live_(HasLiveWindows(device_)), before_(Stats(device_)) {}
  void Run();

 private:
  void CreateAndBind();
  void StartGuest();
  void LendLazily();
  void ReclaimByPolicy();
  void ShareWithGuest();
  void TrimUnderRunningGuest();
  void BindOnDemand();
  void TearDown();

  void PrintState(const char* when);
  // Shows the changed binding, or the hole, of a range: a live window follows by itself.
  void Refresh(uint64_t addr, uint64_t size) {
    if (!live_) Map(vm_.get(), addr, size, window_ + addr);
  }
  // Commands to the guest. They end the program if the guest fails to carry them out.
  int GuestRead(uint32_t addr);
  void GuestWrite(uint32_t addr, uint8_t value);

  Fd device_, mem_, vm_;
  const bool live_;
  gmem_stats before_;
  uint8_t* host_ = nullptr;
  uint8_t* window_ = nullptr;
  kvm_agent agent_ = {};
};

int Demo::GuestRead(uint32_t addr) {
  uint8_t value = 0;
  int err = kvm_agent_read(&agent_, addr, &value);
  return err ? err : value;
}

void Demo::GuestWrite(uint32_t addr, uint8_t value) {
  int err = kvm_agent_write(&agent_, addr, value);
  if (err) Die("the guest's write", -err);
}

void Demo::PrintState(const char* when) {
  std::printf("\n   bindings %-15s %12s %12s %12s   %s\n", when, "guest", "size", "file", "kind");
  for (const gmem_binding_info& b : QueryVm(vm_)) {
    bool lent = (b.flags & GMEM_MAP_ACCESS_MASK) == GMEM_MAP_FORCE_LEND;
    std::printf("   %24s %#12llx %8llu KiB %#12llx   %s\n", "", b.guest_addr, b.length / 1024,
                b.offset, lent ? "lent" : "shared");
  }
  gmem_mem_query pages = QueryMem(mem_, 0, kMemSize);
  std::printf("   pages of the guestmem: %llu absent, %llu host, %llu lent, %llu shared\n",
              pages.absent, pages.host, pages.lent, pages.shared);
}

void Demo::CreateAndBind() {
  Step("Create a guestmem and a VM, bind one part lent and one shared");
  mem_ = CreateMem(device_, kMemSize);
  host_ = Map(mem_.get(), 0, kMemSize);
  vm_ = live_ ? CreateLiveVm(device_) : CreateVm(device_);
  window_ = Map(vm_.get(), 0, kGuestSize);
  std::printf("   the VM's window is %s\n", live_ ? "live: one mapping that follows the bindings"
                                                  : "paged: a mapping for each binding");
  Bind(vm_, mem_, kLentAddr, 0, kLentSize, kLend);
  Bind(vm_, mem_, kSharedAddr, kLentSize, kSharedSize, kShare);
  Check(QueryVm(vm_).size() == 2, "the VM has 2 bindings");
  Check(QueryMem(mem_, 0, kMemSize).absent == kMemSize / kPage, "none of the %llu pages exists yet",
        static_cast<unsigned long long>(kMemSize / kPage));
}

void Demo::StartGuest() {
  Step("Load a program as the host, register the VM's window as one KVM memslot");
  std::memcpy(host_ + kCode, kvm_agent_code, sizeof(kvm_agent_code));
  host_[kLentPage] = 41;
  Refresh(kLentAddr, kLentSize);
  Refresh(kSharedAddr, kSharedSize);
  int err = kvm_agent_open(&agent_, window_, kGuestSize, kCode, /*irqchip=*/false);
  if (err) Die("KVM", -err);
  Check(true, "one memslot: %llu MiB of guest addresses at %p",
        static_cast<unsigned long long>(kGuestSize / kMiB), static_cast<void*>(window_));
  PrintState("before it runs");
}

void Demo::LendLazily() {
  Step("The guest uses a lent page: it leaves the host");
  Check(Mapped(host_ + kLentPage), "before: the host has the page mapped");
  int value = GuestRead(kLentPage);
  Check(value == 41, "the guest reads %d, which the host wrote", value);
  GuestWrite(kLentPage, 42);
  Check(!Mapped(host_ + kLentPage), "the host's page table entry is gone");
  gmem_mem_query pages = QueryMem(mem_, kLentPage, kPage);
  Check(pages.lent == 1, "the page is lent (MEM_QUERY: %llu lent, %llu host)", pages.lent,
        pages.host);
}

void Demo::ReclaimByPolicy() {
  Step("The host touches it: the VM's policy decides the effect");
  SetPolicy(vm_, GMEM_POLICY_DENY);
  int value = Peek(host_ + kLentPage);
  Check(value == -1, "deny:  the host gets SIGBUS");
  value = GuestRead(kLentPage);
  Check(value == 42, "       the guest still reads %d", value);

  SetPolicy(vm_, GMEM_POLICY_ALLOW);
  value = Peek(host_ + kLentPage);
  Check(value == 42, "allow: the host reads %d, which the guest wrote", value);
  Check(QueryMem(mem_, kLentPage, kPage).host == 1, "       the page is the host's again");
  value = GuestRead(kLentPage);
  Check(value == 42 && !Mapped(host_ + kLentPage),
        "       the guest reads %d, and the page is lent again", value);

  SetPolicy(vm_, GMEM_POLICY_SCRUB);
  value = Peek(host_ + kLentPage);
  Check(value == 0, "scrub: the host reads %d: the page was zeroed first", value);
  SetPolicy(vm_, GMEM_POLICY_ALLOW);
}

void Demo::ShareWithGuest() {
  Step("Both sides use a shared page");
  uint8_t* host = host_ + kLentSize;
  GuestWrite(kSharedPage, 7);
  int value = Peek(host);
  Check(value == 7, "the host reads %d, which the guest wrote", value);
  host[1] = 8;
  value = GuestRead(kSharedPage + 1);
  Check(value == 8, "the guest reads %d, which the host wrote", value);
  Check(Mapped(host), "the host has it mapped all the time");
}

void Demo::TrimUnderRunningGuest() {
  Step("Trim and split the lent binding while the guest runs in it");
  // The guest counts up a word in the middle, in an endless loop.
  constexpr uint32_t kCounter = kLentPage + 8;
  volatile auto* count = reinterpret_cast<volatile uint32_t*>(host_ + kCounter);
  *count = 0;
  count[1] = 0;
  int result = -1;
  std::thread vcpu(
      [&] { result = kvm_agent_command(&agent_, KVM_AGENT_SPIN, kCounter, 0, nullptr); });
  auto counts = [&](const char* when) {
    uint32_t first = *count, now = first;
    for (int i = 0; i < 5000 && now == first; ++i) {
      usleep(1000);
      now = *count;
    }
    Check(now != first, "%s: the guest counts on (%u, %u)", when, first, now);
  };
  counts("before");

  uint64_t pages = Unbind(vm_, kLentSize - kMiB, kMiB);
  Refresh(kLentSize - kMiB, kMiB);
  Check(pages == 256 && QueryVm(vm_).size() == 2, "trimmed 1 MiB off the end, %llu pages",
        static_cast<unsigned long long>(pages));
  counts("after");

  pages = Unbind(vm_, kMiB, kMiB / 2);
  Refresh(kMiB, kMiB / 2);
  Check(pages == 128 && QueryVm(vm_).size() == 3, "cut 512 KiB out of the middle: split in two");
  counts("after");

  Unbind(vm_, kLentPage, kPage);
  Refresh(kLentPage, kPage);
  vcpu.join();
  gmem_fault_info fault = LastFault(vm_);
  Check(result == -EFAULT, "unbound the page that it counts in: KVM_RUN fails with EFAULT");
  Check(fault.guest_addr == kLentPage && fault.reason == GMEM_FAULT_UNBOUND,
        "VM_FAULTS says: guest address %#llx, unbound", fault.guest_addr);
}

void Demo::BindOnDemand() {
  Step("Bind the missing page and let the guest go on");
  uint32_t before = *reinterpret_cast<volatile uint32_t*>(host_ + kLentPage + 8);
  // A word behind the counter that isn't 0 ends the guest's loop after its next step.
  host_[kLentPage + 12] = 1;
  Bind(vm_, mem_, kLentPage, kLentPage, kPage, kLend);
  Refresh(kLentPage, kPage);
  int err = kvm_agent_resume(&agent_, nullptr);
  uint32_t after = *reinterpret_cast<volatile uint32_t*>(host_ + kLentPage + 8);
  Check(err == 0 && after == before + 1, "it finished the access it had begun: %u, then %u", before,
        after);
  PrintState("after it ran");
}

void Demo::TearDown() {
  Step("Tear down");
  kvm_agent_close(&agent_);
  munmap(window_, kGuestSize);
  vm_.Close();
  Check(QueryMem(mem_, 0, kMemSize).lent == 0, "VM and window are gone: no page is lent");
  munmap(host_, kMemSize);
  mem_.Close();
  gmem_stats now = Stats(device_);
  Check(now.vms == before_.vms && now.mems == before_.mems && now.bindings == before_.bindings,
        "as before: VMs: %llu, guestmems: %llu, bindings: %llu", now.vms, now.mems, now.bindings);
  Check(now.leaked_pages == before_.leaked_pages, "leaked pages: %llu", now.leaked_pages);
  std::printf("   in all: pages lent: %llu, taken back: %llu; accesses refused: %llu\n",
              now.lends - before_.lends, now.reclaims - before_.reclaims,
              now.refused - before_.refused);
}

void Demo::Run() {
  std::printf("gmem: guest memory, lent and shared\n");
  CreateAndBind();
  StartGuest();
  LendLazily();
  ReclaimByPolicy();
  ShareWithGuest();
  TrimUnderRunningGuest();
  BindOnDemand();
  TearDown();
}

}  // namespace

int main(int argc, char** argv) {
  if (const auto status = HandleArguments("gmem-demo", {}, argc, argv)) return *status;
  struct sigaction action = {};
  action.sa_handler = OnSigbus;
  action.sa_flags = SA_NODEFER;
  sigaction(SIGBUS, &action, nullptr);

  Demo().Run();
  std::printf("\n%s\n", failures ? "SOME CHECKS FAILED" : "All checks passed.");
  return failures ? tools::kExitFailed : 0;
}
