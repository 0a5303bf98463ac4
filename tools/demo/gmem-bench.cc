// SPDX-License-Identifier: Apache-2.0
// Measures gmem against the calls that a VMM would use instead. Each row is a ratio of the medians
// of two things that are measured in one run, alternately. Prints all results, whether they meet
// the goal or not.
//
//   gmem-bench           all rows except the next
//   gmem-bench convert   lend and reclaim: needs a KVM with private memory (guest_memfd and
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
  std::printf("%-48s %10s %10s %8s %9s\n", "row (medians)", "gmem", "other", "ratio", "goal");
}

// Prints a row. The goal is met if @ratio is at most @goal; 0: none.
void Row(const char* name, double ours, double theirs, double ratio, double goal) {
  std::printf("%-48s %8.2fus %8.2fus %7.2fx ", name, ours, theirs, ratio);
  if (goal > 0) {
    std::printf("<=%6.2fx %s\n", goal, ratio <= goal ? "met" : "SHORT");
  } else {
    std::printf("%9s\n", "-");
  }
  std::fflush(stdout);
}

// Prints a row with a number that isn't a time.
void Amount(const char* name, double amount, const char* unit, double goal) {
  std::printf("%-48s %8.2f %-21s <=%6.2f  %s\n", name, amount, unit, goal,
              amount <= goal ? "met" : "SHORT");
  std::fflush(stdout);
}

enum class Kind { kLive, kPaged };

// A guest in a window, with its code lent at address 0.
class Guest {
 public:
  Guest(const Fd& device, Kind kind)
      : code_mem_(CreateMem(device, kMiB)),
        live_(kind == Kind::kLive),
        vm_(live_ ? CreateLiveVm(device) : CreateVm(device)) {
    host_ = Map(code_mem_.get(), 0, kMiB);
    std::memcpy(host_ + kCode, kvm_agent_code, sizeof(kvm_agent_code));
    Bind(vm_, code_mem_, 0, 0, kMiB, kShare);
    MapWindow();
    Refresh(0, kMiB);
    int err = kvm_agent_open(&agent_, window_, kGuestSize, kCode, /*irqchip=*/false);
    if (err) Die("KVM", -err);
  }
  ~Guest() {
    kvm_agent_close(&agent_);
    munmap(window_, kGuestSize);
    munmap(host_, kMiB);
  }

  // A live window follows by itself.
  void Refresh(uint64_t addr, uint64_t size) {
    if (!live_) Map(vm_.get(), addr, size, window_ + addr);
  }
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
  // KVM uses huge pages only where addresses are equal modulo 2 MiB. A paged window begins as
  // a range where nothing is bound.
  void MapWindow() {
    void* space = mmap(nullptr, kGuestSize + kHuge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) Die("mmap", errno);
    const uint64_t begin = (reinterpret_cast<uintptr_t>(space) + kHuge - 1) & ~(kHuge - 1);
    window_ = reinterpret_cast<uint8_t*>(begin);
    const uint64_t bound = live_ ? 0 : kMiB;
    Map(vm_.get(), bound, kGuestSize - bound, window_ + bound);
  }

  Fd code_mem_;
  const bool live_;
  Fd vm_;
  uint8_t* host_;
  uint8_t* window_;
  kvm_agent agent_ = {};
  std::thread vcpu_;
};

// Binds and unbinds a page behind a live window, against mmap() and munmap() of a page of a memfd,
// while the vCPU runs. For comparison: a paged window, which has to be mapped for each binding, and
// a memslot that is added and deleted. The last row is the first one with 30,000 other ranges.
void BenchBind(const Fd& device) {
  constexpr uint64_t kRanges = 30000;
  constexpr uint64_t kAddr = 2 * kMiB;
  constexpr uint64_t kCrowd = 512 * kMiB;
  constexpr int kRounds = 300;
  Guest live(device, Kind::kLive), paged(device, Kind::kPaged);
  Fd mem = CreateMem(device, 2 * kRanges * kPage + kPage);
  Fd other_mem = CreateMem(device, kPage);
  Fd memfd(memfd_create("bench", MFD_CLOEXEC), "memfd_create");
  if (ftruncate(memfd.get(), kPage)) Die("ftruncate", errno);
  void* other = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto bind = [&] { Bind(live.vm(), mem, kAddr, 0, kPage, kLend); };
  auto unbind = [&] { Unbind(live.vm(), kAddr, kPage); };

  Samples alone, binds, unbinds, mapping, pieces, memslot;
  live.Start();
  for (int i = 0; i < kRounds; ++i) {
    // The memslot calls empty KVM's page tables, and with them the caches: not before each sample.
    if (i % 5 == 0) {
      memslot.Time([&] {
        live.SetSlot(kPage, other);
        live.SetSlot(0, other);
      });
    }
    alone.Time([&] {
      binds.Time(bind);
      unbinds.Time(unbind);
    });
    mapping.Time([&] { munmap(Map(memfd.get(), 0, kPage), kPage); });
    pieces.Time([&] {
      Bind(paged.vm(), other_mem, kAddr, 0, kPage, kLend);
      paged.Refresh(kAddr, kPage);
      Unbind(paged.vm(), kAddr, kPage);
      paged.Refresh(kAddr, kPage);
    });
  }
  live.Stop();
  const double one = alone.Median(), mmaps = mapping.Median(), slots = memslot.Median();
  Row("bind + unbind : memfd mmap + munmap", one, mmaps, one / mmaps, 1.0);
  std::printf("  bind took %.2f us, unbind %.2f us\n", binds.Median(), unbinds.Median());
  const double two = pieces.Median();
  Row("  paged window : memfd mmap + munmap", two, mmaps, two / mmaps, 0);
  Row("  live window : memslot add + delete", one, slots, one / slots, 0);
  std::printf("  the memslot calls, which wait for readers of KVM's slots, took %.0f to %.0f us\n",
              memslot.Min(), memslot.Max());

  for (uint64_t i = 1; i < kRanges; ++i) {
    Bind(live.vm(), mem, kCrowd + 2 * i * kPage, (2 * i + 1) * kPage, kPage, kLend);
  }
  Samples crowd;
  live.Start();
  for (int i = 0; i < kRounds; ++i) {
    crowd.Time([&] {
      bind();
      unbind();
    });
  }
  live.Stop();
  const double many = crowd.Median();
  Row("  with 30,000 ranges : with one", many, one, many / one, 1.3);
  munmap(other, kPage);
}

// KVM's descriptor of a number, without the name behind it. In C++, the header's struct may be
// longer than that.
constexpr size_t kStatsDescSize = 16;
static_assert(offsetof(kvm_stats_desc, bucket_size) + sizeof(uint32_t) == kStatsDescSize);

// A number that KVM keeps of a vCPU.
uint64_t VcpuStat(int vcpu, const std::string& name) {
  Fd stats(ioctl(vcpu, KVM_GET_STATS_FD, nullptr), "KVM_GET_STATS_FD");
  kvm_stats_header header;
  if (pread(stats.get(), &header, sizeof(header), 0) != sizeof(header)) Die("KVM's stats", errno);
  std::vector<char> descriptor(kStatsDescSize + header.name_size);
  for (uint32_t i = 0; i < header.num_desc; ++i) {
    if (pread(stats.get(), descriptor.data(), descriptor.size(),
              static_cast<off_t>(header.desc_offset + i * descriptor.size())) < 0) {
      Die("KVM's stats", errno);
    }
    kvm_stats_desc desc = {};
    std::memcpy(&desc, descriptor.data(), kStatsDescSize);
    if (name != descriptor.data() + kStatsDescSize) continue;
    uint64_t value = 0;
    if (pread(stats.get(), &value, sizeof(value),
              static_cast<off_t>(header.data_offset + desc.offset)) != sizeof(value)) {
      Die("KVM's stats", errno);
    }
    return value;
  }
  Die("KVM has no such number", ENOENT);
}

// How many page faults the guest takes for each page that it gets from the host.
void BenchFaults(const Fd& device) {
  constexpr int kRounds = 1000;
  Guest guest(device, Kind::kLive);
  Fd mem = CreateMem(device, kPage);
  uint8_t* host = Map(mem.get(), 0, kPage);
  Bind(guest.vm(), mem, 16 * kMiB, 0, kPage, kLend);
  guest.Touch(16 * kMiB, 1, 0);
  const uint64_t lends = Stats(device).lends;
  const uint64_t faults = VcpuStat(guest.agent()->vcpu, "pf_taken");
  for (int i = 0; i < kRounds; ++i) {
    host[0] = 1;
    guest.Touch(16 * kMiB, 1, 0);
  }
  Amount("KVM's page faults for each lend",
         static_cast<double>(VcpuStat(guest.agent()->vcpu, "pf_taken") - faults) /
             static_cast<double>(Stats(device).lends - lends),
         "faults", 1.01);
  munmap(host, kPage);
}

// The guest's first touch of pages: gmem's through a window, the other side's in a memslot on a
// memfd.
void BenchTouch(const Fd& device, Kind kind, const char* name, uint64_t page, uint32_t count,
                int rounds, unsigned int memfd_flags) {
  Guest guest(device, kind);
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
  Row(name, our, their, our / their, 1.0);
  guest.SetSlot(0, memory);
  munmap(memory, size);
}

// A device's first touch of pages: gmem's through a view, the other side's of a memfd.
void BenchView(const Fd& device, const char* name, uint64_t page, uint64_t count, int rounds,
               unsigned int memfd_flags) {
  const uint64_t batch = page * count, size = batch * static_cast<uint64_t>(rounds);
  Fd mem = CreateMem(device, size, page == kHuge ? GMEM_MEM_ALLOW_HUGEPAGE : 0);
  Fd view = CreateView(mem, 0, size);
  Fd memfd(memfd_create("bench", memfd_flags), "memfd_create");
  if (ftruncate(memfd.get(), static_cast<off_t>(size))) Die("ftruncate", errno);
  uint8_t* ours = Map(view.get(), 0, size);
  uint8_t* theirs = Map(memfd.get(), 0, size);
  auto touch = [&](uint8_t* memory, int round) {
    volatile uint8_t* at = memory + batch * static_cast<uint64_t>(round);
    for (uint64_t i = 0; i < count; ++i) at[i * page] = 1;
  };

  Samples our_times, their_times;
  for (int i = 0; i < rounds; ++i) {
    our_times.Time([&] { touch(ours, i); }, static_cast<double>(count));
    their_times.Time([&] { touch(theirs, i); }, static_cast<double>(count));
  }
  const double our = our_times.Median(), their = their_times.Median();
  Row(name, our, their, our / their, 1.0);
  munmap(ours, size);
  munmap(theirs, size);
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

// Binds and unbinds among many bindings behind one live window, and measures the kernel memory of a
// binding.
void BenchMany(const Fd& device) {
  constexpr uint64_t kMany = 1000000;
  constexpr uint64_t kBase = uint64_t{1} << 40;
  Fd vm = CreateLiveVm(device);
  Fd mem = CreateMem(device, (2 * kMany + 2) * kPage);
  uint8_t* window = Map(vm.get(), kBase, (2 * kMany + 2) * kPage);
  auto bind = [&](uint64_t i) {
    Bind(vm, mem, kBase + 2 * i * kPage, 2 * i * kPage, kPage, kLend);
  };
  double few = 0, few_touch = 0;
  uint64_t done = 0, slab = 0;

  for (uint64_t many : {uint64_t{1000}, kMany}) {
    for (; done < many; ++done) {
      if (done == 1000) slab = SlabBytes();
      bind(done);
    }
    if (many == kMany) {
      Amount("kernel memory per binding (slab)",
             static_cast<double>(SlabBytes() - slab) / static_cast<double>(kMany - 1000), "bytes",
             200);
    }
    Samples samples, touches;
    for (uint64_t i = 0; i < 2000; ++i) {
      // Use a gap between two of the other bindings.
      const uint64_t at = 2 * ((i * 7919) % many) + 1;
      samples.Time([&] {
        Bind(vm, mem, kBase + at * kPage, at * kPage, kPage, kLend);
        Unbind(vm, kBase + at * kPage, kPage);
      });
      volatile uint8_t* page = window + 2 * ((i * 6101) % many) * kPage;
      touches.Time([&] { *page = 1; });
    }
    if (many == 1000) {
      few = samples.Median();
      few_touch = touches.Median();
    } else {
      const double now = samples.Median(), now_touch = touches.Median();
      Row("bind + unbind at 1e6 bindings : at 1e3", now, few, now / few, 1.5);
      std::printf(
          "  each walks the VM's tree and the file's, which is binary: 20 levels, not 10,\n"
          "  at places that no cache holds\n");
      Row("first touch in the window at 1e6 : at 1e3", now_touch, few_touch, now_touch / few_touch,
          0);
    }
  }
  munmap(window, (2 * kMany + 2) * kPage);
}

// A page goes to the guest, back to the host, and to the guest again. On the other side, memory
// attributes on a guest_memfd make it private, shared, and private again.
class ConvertBench {
 public:
  explicit ConvertBench(const Fd& device)
      : guest_(device, Kind::kLive), mem_(CreateMem(device, kMiB)) {}

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
    Row("lend + reclaim : guest_memfd convert + back", our, their, our / their, 1.0);
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
  BenchFaults(device);
  BenchTouch(device, Kind::kLive, "first touch, 4 KiB : memfd", kPage, 512, 40, MFD_CLOEXEC);
  BenchView(device, "first touch of a view, 4 KiB : memfd", kPage, 512, 40, MFD_CLOEXEC);
  // Before Linux 6.13, a live VM takes no huge pages.
  const Kind huge = TakesHugePages(device) ? Kind::kLive : Kind::kPaged;
  std::printf("  2 MiB: with a %s window\n", huge == Kind::kLive ? "live" : "paged");
  // Two kinds of memfd have huge pages. shmem allocates a page when it is touched, as gmem does;
  // hugetlbfs has allocated it beforehand and only zeroes it.
  std::ofstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled") << "force";
  BenchTouch(device, huge, "first touch, 2 MiB : memfd, shmem huge pages", kHuge, 4, 15,
             MFD_CLOEXEC);
  BenchView(device, "first touch of a view, 2 MiB : the same", kHuge, 4, 15, MFD_CLOEXEC);
  std::ofstream("/sys/kernel/mm/transparent_hugepage/shmem_enabled") << "never";
  std::ofstream("/proc/sys/vm/nr_hugepages") << 64;
  BenchTouch(device, huge, "first touch, 2 MiB : memfd, hugetlbfs", kHuge, 4, 15,
             MFD_CLOEXEC | MFD_HUGETLB);
  std::ofstream("/proc/sys/vm/nr_hugepages") << 0;
  BenchMany(device);
  return 0;
}
