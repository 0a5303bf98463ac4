// SPDX-License-Identifier: Apache-2.0
// Measures gmem against the calls that a VMM would use instead. Each row is a ratio of the medians
// of two things that are measured in one run, alternately. Prints all results, whether they meet
// the goal or not.
//
//   gmem-bench           all rows except the last
//   gmem-bench convert   the last row: needs a KVM with private memory (guest_memfd and
//                        KVM_X86_SW_PROTECTED_VM)
#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

#include "gmem_calls.h"
#include "kvm/abi.h"
#include "testing/kvm_agent.h"

namespace {

using namespace gmem_tools;  // NOLINT: one program's own helpers

constexpr uint64_t kHuge = 2 * kMiB;
constexpr uint32_t kCode = 0x1000;
constexpr uint32_t kSpin = 0x3000;
constexpr uint64_t kGuestSize = 1024 * kMiB;
// The other side's memslot begins at this guest address.
constexpr uint32_t kOther = 0x80000000;

using Clock = std::chrono::steady_clock;

double Microseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

class Samples {
 public:
  template <typename F>
  void Time(F&& work, double per = 1) {
    Clock::time_point begin = Clock::now();
    work();
    values_.push_back(Microseconds(begin) / per);
  }
  double Median() {
    const auto middle = values_.begin() + static_cast<ptrdiff_t>(values_.size() / 2);
    std::nth_element(values_.begin(), middle, values_.end());
    return *middle;
  }
  double Min() const { return *std::min_element(values_.begin(), values_.end()); }
  double Max() const { return *std::max_element(values_.begin(), values_.end()); }

 private:
  std::vector<double> values_;
};

void Header() {
  std::printf("%-46s %10s %10s %8s %9s\n", "row (medians)", "gmem", "other", "ratio", "goal");
}

// Prints a row. The goal is met if @ratio is at least (or at most) @goal.
void Row(const char* name, double ours, double theirs, double ratio, bool at_least, double goal) {
  bool met = at_least ? ratio >= goal : ratio <= goal;
  std::printf("%-46s %8.2fus %8.2fus %7.2fx %s%6.2fx %s\n", name, ours, theirs, ratio,
              at_least ? ">=" : "<=", goal, met ? "met" : "SHORT");
  std::fflush(stdout);
}

// A guest in a window, with its code lent at address 0.
class Guest {
 public:
  explicit Guest(const Fd& device) : code_mem_(CreateMem(device, kMiB)), vm_(CreateVm(device)) {
    host_ = Map(code_mem_.get(), 0, kMiB);
    std::memcpy(host_ + kCode, kvm_agent_code, sizeof(kvm_agent_code));
    window_ = Map(vm_.get(), 0, kGuestSize);
    int err = kvm_agent_open(&agent_, window_, kGuestSize, kCode, /*irqchip=*/false);
    if (err) Die("KVM", -err);
    Bind(vm_, code_mem_, 0, 0, kMiB, kShare);
    Refresh(0, kMiB);
  }
  ~Guest() {
    kvm_agent_close(&agent_);
    munmap(window_, kGuestSize);
    munmap(host_, kMiB);
  }

  void Refresh(uint64_t addr, uint64_t size) { Map(vm_.get(), addr, size, window_ + addr); }
  void Touch(uint64_t addr, uint32_t count, uint64_t stride) {
    int err =
        kvm_agent_touch(&agent_, static_cast<uint32_t>(addr), count, static_cast<uint32_t>(stride));
    if (err) Die("the guest's touch", -err);
  }
  void SetSlot(uint64_t size, void* memory) {
    int err = kvm_agent_set_slot(&agent_, 1, kOther, size, memory);
    if (err) Die("KVM_SET_USER_MEMORY_REGION", -err);
  }

  // Runs the vCPU in a loop until Stop().
  void Start() {
    std::memset(host_ + kSpin, 0, 8);
    vcpu_ = std::thread([this] { kvm_agent_command(&agent_, KVM_AGENT_SPIN, kSpin, 0, nullptr); });
  }
  void Stop() {
    host_[kSpin + 4] = 1;
    vcpu_.join();
  }

  const Fd& vm() const { return vm_; }
  kvm_agent* agent() { return &agent_; }

 private:
  Fd code_mem_, vm_;
  uint8_t* host_;
  uint8_t* window_;
  kvm_agent agent_ = {};
  std::thread vcpu_;
};

// Binds a page, maps its window and unbinds it, against adding and deleting a memslot, while the
// vCPU runs. The second row also maps the window again after the unbind. The third row is the first
// one with 30,000 other ranges, each with a window of its own.
void BenchBind(const Fd& device) {
  constexpr uint64_t kRanges = 30000;
  constexpr uint64_t kAddr = 2 * kMiB;
  constexpr uint64_t kCrowd = 512 * kMiB;
  constexpr int kRounds = 300;
  Guest guest(device);
  Fd mem = CreateMem(device, 2 * kRanges * kPage + kPage);
  void* other = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto bind = [&] { Bind(guest.vm(), mem, kAddr, 0, kPage, kLend); };
  auto refresh = [&] { guest.Refresh(kAddr, kPage); };
  auto unbind = [&] { Unbind(guest.vm(), kAddr, kPage); };

  Samples alone, twice, memslot, ioctls, mmaps;
  guest.Start();
  for (int i = 0; i < kRounds; ++i) {
    memslot.Time([&] {
      guest.SetSlot(kPage, other);
      guest.SetSlot(0, other);
    });
    // Bind several times for each memslot: the memslot calls empty KVM's page tables, and with them
    // the caches that binding uses.
    for (int j = 0; j < 5; ++j) {
      alone.Time([&] {
        ioctls.Time(bind);
        mmaps.Time(refresh);
        ioctls.Time(unbind);
      });
      twice.Time([&] {
        bind();
        refresh();
        unbind();
        refresh();
      });
    }
  }
  guest.Stop();
  double one = alone.Median(), theirs = memslot.Median();
  Row("bind + unbind : memslot add + delete", one, theirs, theirs / one, true, 20);
  std::printf(
      "  each ioctl took %.2f us, the mmap of the window %.2f us; the memslot calls, which\n"
      "  wait for readers of KVM's slots, from %.0f to %.0f us\n",
      ioctls.Median(), mmaps.Median(), memslot.Min(), memslot.Max());
  double two = twice.Median();
  Row("  and window mapped again after unbind", two, theirs, theirs / two, true, 20);

  for (uint64_t i = 1; i < kRanges; ++i) {
    Bind(guest.vm(), mem, kCrowd + 2 * i * kPage, (2 * i + 1) * kPage, kPage, kLend);
    guest.Refresh(kCrowd + 2 * i * kPage, kPage);
  }
  Samples crowd;
  guest.Start();
  for (int i = 0; i < kRounds; ++i) {
    crowd.Time([&] {
      bind();
      refresh();
      unbind();
    });
  }
  guest.Stop();
  double many = crowd.Median();
  Row("  with 30,000 ranges : with one", many, one, many / one, false, 1.3);
  munmap(other, kPage);
}

// The guest's first touch of pages: gmem's through a window, the other side's in a memslot on a
// memfd.
void BenchTouch(const Fd& device, const char* name, uint64_t page, uint32_t count, int rounds,
                unsigned int memfd_flags) {
  Guest guest(device);
  uint64_t batch = page * count, size = batch * static_cast<uint64_t>(rounds);
  Fd mem = CreateMem(device, size, page == kHuge ? GMEM_MEM_ALLOW_HUGEPAGE : 0);
  Fd memfd(memfd_create("bench", memfd_flags), "memfd_create");
  if (ftruncate(memfd.get(), static_cast<off_t>(size))) Die("ftruncate", errno);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (memory == MAP_FAILED) Die("mmap of the memfd (huge pages?)", errno);

  Bind(guest.vm(), mem, 16 * kMiB, 0, size, kLend);
  guest.Refresh(16 * kMiB, size);
  guest.SetSlot(size, memory);

  Samples ours, theirs;
  for (int i = 0; i < rounds; ++i) {
    uint64_t at = batch * static_cast<uint64_t>(i);
    ours.Time([&] { guest.Touch(16 * kMiB + at, count, page); }, count);
    theirs.Time([&] { guest.Touch(kOther + at, count, page); }, count);
  }
  double our = ours.Median(), their = theirs.Median();
  Row(name, our, their, our / their, false, 1.0);
  guest.SetSlot(0, memory);
  munmap(memory, size);
}

uint64_t SlabBytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  uint64_t value;
  while (meminfo >> key >> value) {
    if (key == "Slab:") return value * 1024;
    std::getline(meminfo, unit);
  }
  return 0;
}

// Binds and unbinds among many bindings, and measures the kernel memory of a binding.
void BenchMany(const Fd& device) {
  constexpr uint64_t kMany = 1000000;
  constexpr uint64_t kBase = uint64_t{1} << 40;
  Fd vm = CreateVm(device);
  Fd mem = CreateMem(device, (2 * kMany + 2) * kPage);
  auto bind = [&](uint64_t i) {
    Bind(vm, mem, kBase + 2 * i * kPage, 2 * i * kPage, kPage, kLend);
  };
  double few = 0;
  uint64_t done = 0, slab = 0;

  for (uint64_t many : {uint64_t{1000}, kMany}) {
    for (; done < many; ++done) {
      if (done == 1000) slab = SlabBytes();
      bind(done);
    }
    Samples samples;
    for (int i = 0; i < 2000; ++i) {
      // Use a gap between two of the other bindings.
      uint64_t at = 2 * ((static_cast<uint64_t>(i) * 7919) % many) + 1;
      samples.Time([&] {
        Bind(vm, mem, kBase + at * kPage, at * kPage, kPage, kLend);
        Unbind(vm, kBase + at * kPage, kPage);
      });
    }
    if (many == 1000) {
      few = samples.Median();
    } else {
      double now = samples.Median();
      Row("bind + unbind at 1e6 bindings : at 1e3", now, few, now / few, false, 1.5);
      std::printf(
          "  each walks the VM's tree and the file's, which is binary: 20 levels, not 10,\n"
          "  at places that no cache holds\n");
    }
  }
  double bytes = static_cast<double>(SlabBytes() - slab) / static_cast<double>(kMany - 1000);
  std::printf("%-46s %9.0fB %29s %s\n", "kernel memory per binding (slab)", bytes, "<=  256B",
              bytes <= 256 ? "met" : "SHORT");
}

// A page goes to the guest, back to the host, and to the guest again. On the other side, memory
// attributes on a guest_memfd make it private, shared, and private again.
class ConvertBench {
 public:
  explicit ConvertBench(const Fd& device) : guest_(device), mem_(CreateMem(device, kMiB)) {}

  int Run() {
    const char* missing = SetUpTheirs();
    if (missing) {
      std::printf("lend, reclaim, lend : guest_memfd conversion    not measured: %s\n", missing);
      return 0;
    }
    uint8_t* host = Map(mem_.get(), 0, kMiB);
    Bind(guest_.vm(), mem_, 16 * kMiB, 0, kPage, kLend);
    guest_.Refresh(16 * kMiB, kPage);
    Samples ours, lend, again, reclaim, theirs, to_private, use, to_shared;
    for (int i = 0; i < 300; ++i) {
      ours.Time([&] {
        lend.Time([&] { guest_.Touch(16 * kMiB, 1, 0); });
        reclaim.Time([&] { host[0] = 1; });
      });
      theirs.Time([&] {
        to_private.Time([&] { SetPrivate(true); });
        use.Time([&] { TheirTouch(); });
        to_shared.Time([&] { SetPrivate(false); });
        shared_[kTheirPage] = 1;
      });
      // The cost of a touch that changes nothing: mostly the agent's exits.
      guest_.Touch(16 * kMiB, 1, 0);
      again.Time([&] { guest_.Touch(16 * kMiB, 1, 0); });
      host[0] = 1;
    }
    double our = ours.Median(), their = theirs.Median();
    Row("lend + reclaim : guest_memfd convert + back", our, their, their / our, true, 2);
    std::printf(
        "  ours: %.0f us the guest's touch (%.0f us when lent already), %.0f us the host's;\n"
        "  theirs: %.0f us to private, %.0f us the guest's touch, %.0f us to shared\n",
        lend.Median(), again.Median(), reclaim.Median(), to_private.Median(), use.Median(),
        to_shared.Median());
    munmap(host, kMiB);
    return 0;
  }

 private:
  static constexpr uint64_t kTheirPage = 0x10000;

  void SetPrivate(bool to_private) const {
    kvm_memory_attributes attributes = {};
    attributes.address = kTheirPage;
    attributes.size = kPage;
    attributes.attributes = to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
    if (ioctl(their_.vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes)) {
      Die("KVM_SET_MEMORY_ATTRIBUTES", errno);
    }
  }

  void TheirTouch() {
    int err = kvm_agent_touch(&their_, kTheirPage, 1, 0);
    if (err) Die("their guest's touch", -err);
  }

  // Returns the name of the missing feature, or null.
  const char* SetUpTheirs() {
    their_.vm = their_.vcpu = -1;
    their_.code = kCode;
    their_.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    their_.vm = ioctl(their_.kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
    if (their_.vm < 0) return "this KVM has no VM type with private memory";
    kvm_create_guest_memfd create = {};
    create.size = kMiB;
    int memfd = ioctl(their_.vm, KVM_CREATE_GUEST_MEMFD, &create);
    if (memfd < 0) return "this KVM has no guest_memfd";
    void* memory = mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) Die("mmap", errno);
    shared_ = static_cast<uint8_t*>(memory);
    std::memcpy(shared_ + kCode, kvm_agent_code, sizeof(kvm_agent_code));
    kvm_userspace_memory_region2 region = {};
    region.flags = KVM_MEM_GUEST_MEMFD;
    region.memory_size = kMiB;
    region.userspace_addr = reinterpret_cast<uintptr_t>(memory);
    region.guest_memfd = static_cast<uint32_t>(memfd);
    if (ioctl(their_.vm, KVM_SET_USER_MEMORY_REGION2, &region)) {
      Die("KVM_SET_USER_MEMORY_REGION2", errno);
    }
    their_.vcpu = ioctl(their_.vm, KVM_CREATE_VCPU, 0);
    if (their_.vcpu < 0) Die("KVM_CREATE_VCPU", errno);
    int err = kvm_agent_set_up_vcpu(&their_);
    if (err) Die("vCPU", -err);
    return nullptr;
  }

  Guest guest_;
  Fd mem_;
  kvm_agent their_ = {};
  uint8_t* shared_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  Fd device = OpenDevice();
  Header();
  if (argc > 1 && std::string(argv[1]) == "convert") return ConvertBench(device).Run();

  BenchBind(device);
  BenchTouch(device, "first touch, 4 KiB : memfd", kPage, 512, 40, MFD_CLOEXEC);
  // Two kinds of memfd have huge pages. shmem allocates a page when it is touched, as gmem does;
  // hugetlbfs has allocated it beforehand and only zeroes it.
  std::ofstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled") << "force";
  BenchTouch(device, "first touch, 2 MiB : memfd, shmem huge pages", kHuge, 4, 15, MFD_CLOEXEC);
  std::ofstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled") << "never";
  std::ofstream("/proc/sys/vm/nr_hugepages") << 64;
  BenchTouch(device, "first touch, 2 MiB : memfd, hugetlbfs", kHuge, 4, 15,
             MFD_CLOEXEC | MFD_HUGETLB);
  std::ofstream("/proc/sys/vm/nr_hugepages") << 0;
  BenchMany(device);
  return 0;
}
