// SPDX-License-Identifier: MIT OR Apache-2.0
// Measures gmem against the calls that a VMM would use instead. Each row is a ratio of the medians
// of two things that are measured in one run, alternately. Prints all results, whether they meet
// the goal or not.
//
//   gmem-bench           all rows except the next
//   gmem-bench wait      the wait for a page, alone
//   gmem-bench fallback  huge pages that have a small one, alone
//   gmem-bench strangers how long others wait for a VM's work, alone
//   gmem-bench change    changes in place, alone
//   gmem-bench convert   lend and reclaim, and changes in place: needs a KVM with private memory
//                        (guest_memfd and KVM_X86_SW_PROTECTED_VM)
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
  void Add(double value) { values_.push_back(value); }
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

// Puts one small page into each huge page: a child touches them in a group that has less memory than
// a huge page takes. False if this host has no such groups.
bool MakeFallback(uint8_t* memory, uint64_t size) {
  const std::string groups = "/sys/fs/cgroup", group = groups + "/gmem-bench";
  // Fails if the groups are mounted already.
  mount("cgroup2", groups.c_str(), "cgroup2", 0, nullptr);
  std::ofstream(groups + "/cgroup.subtree_control") << "+memory";
  mkdir(group.c_str(), 0755);
  std::ofstream limit(group + "/memory.max");
  limit << kHuge * 3 / 4 << std::flush;
  if (!limit) return false;
  const pid_t child = fork();
  if (child == 0) {
    std::ofstream(group + "/cgroup.procs") << "0";
    for (uint64_t i = 0; i < size; i += kHuge) memory[i] = 1;
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  rmdir(group.c_str());
  return status == 0;
}

// The first touch of the rest of a huge page, of which one small page is there already, against a
// guestmem without huge pages.
void BenchFallback(const Fd& device) {
  constexpr uint64_t kRounds = 20;
  constexpr uint64_t kSize = kRounds * kHuge;
  const char* const row = "touch after a fallback : 4 KiB guestmem";
  Fd mem = CreateMem(device, kSize, GMEM_MEM_ALLOW_HUGEPAGE);
  Fd other = CreateMem(device, kSize);
  uint8_t* ours = Map(mem.get(), 0, kSize);
  uint8_t* theirs = Map(other.get(), 0, kSize);
  if (!MakeFallback(ours, kSize) || QueryMem(mem, 0, kSize).host != kRounds) {
    std::printf("%s    not measured: no memory cgroups\n", row);
    return;
  }
  for (uint64_t i = 0; i < kSize; i += kHuge) theirs[i] = 1;
  const auto touch = [](uint8_t* memory) {
    volatile uint8_t* const at = memory;
    for (uint64_t i = kPage; i < kHuge; i += kPage) at[i] = 1;
  };
  Samples our_times, their_times;
  for (uint64_t i = 0; i < kRounds; ++i) {
    our_times.Time([&] { touch(ours + i * kHuge); }, kHuge / kPage - 1);
    their_times.Time([&] { touch(theirs + i * kHuge); }, kHuge / kPage - 1);
  }
  const double our = our_times.Median(), their = their_times.Median();
  Row(row, our, their, our / their, 1.2);
  munmap(ours, kSize);
  munmap(theirs, kSize);
}

// A VM works on 1 GiB. How long do others wait for it meanwhile? The longest touch of
// another VM on the same guestmem, the longest mmap() of the process, and the death of a process
// that is killed in the middle.
class StrangerBench {
 public:
  enum class Work { kPopulate, kUnmap, kPunch, kEnd };

  StrangerBench(const Fd& device, Kind kind, Work work) : device_(device), kind_(kind), work_(work) {
    mem_ = CreateMem(device, kSize + kStrangers);
    stranger_ = NewVm();
    Bind(stranger_, mem_, 0, kSize, kStrangers, kLend);
    host_ = Map(mem_.get(), kSize, kStrangers);
    window_ = Map(stranger_.get(), 0, kStrangers);
  }
  ~StrangerBench() {
    munmap(host_, kStrangers);
    munmap(window_, kStrangers);
  }

  void Run(const std::string& name) {
    Best touch, map, death;
    for (int i = 0; i < 3; ++i) {
      Waits waits = Watch();
      touch.Add(waits.touch, waits.work);
      map.Add(waits.map, waits.work);
      death.Add(Kill(waits.work), waits.work);
    }
    touch.Print("touch beside " + name);
    map.Print("mmap() beside " + name);
    death.Print("death in " + name);
  }

 private:
  static constexpr uint64_t kSize = 1024 * kMiB;
  static constexpr uint64_t kStrangers = 8 * kMiB;

  struct Waits {
    double touch = 0;
    double map = 0;
    double work = 0;
  };

  // Both sides of the try with the least ratio.
  class Best {
   public:
    void Add(double wait, double work) {
      if (work_ == 0 || wait * work_ < wait_ * work) {
        wait_ = wait;
        work_ = work;
      }
    }
    // 2 % of the work, or 50 ms if that is more.
    void Print(const std::string& name) const {
      Row(name.c_str(), wait_, work_, wait_ / work_, std::max(0.02, 50000 / work_));
    }

   private:
    double wait_ = 0;
    double work_ = 0;
  };

  Fd NewVm() const { return kind_ == Kind::kLive ? CreateLiveVm(device_) : CreateVm(device_); }

  // A VM that is about to do its work. The pages are new again.
  Fd Prepare() const {
    Punch(mem_, 0, kSize);
    Fd vm = NewVm();
    SetPolicy(vm, GMEM_POLICY_SCRUB);
    Bind(vm, mem_, 0, 0, kSize, kLend);
    if (work_ != Work::kPopulate) Populate(vm, 0, kSize);
    return vm;
  }

  void Do(Fd& vm) const {
    switch (work_) {
      case Work::kPopulate:
        return Populate(vm, 0, kSize);
      case Work::kUnmap:
        Unbind(vm, 0, kSize);
        return;
      case Work::kPunch:
        return Punch(mem_, 0, kSize);
      case Work::kEnd:
        return vm.Close();
    }
  }

  static void Longest(double* longest, Clock::time_point since) {
    *longest = std::max(*longest, Microseconds(since));
  }

  Waits Watch() const {
    Fd vm = Prepare();
    Waits waits;
    std::atomic<bool> done = false;
    std::thread worker([&] {
      const Clock::time_point since = Clock::now();
      Do(vm);
      waits.work = Microseconds(since);
      done = true;
    });
    std::thread mapper([&] {
      while (!done) {
        const Clock::time_point since = Clock::now();
        void* page = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        Longest(&waits.map, since);
        munmap(page, kPage);
        usleep(500);
      }
    });
    for (uint64_t at = 0; !done; at = (at + kPage) % kStrangers) {
      const Clock::time_point since = Clock::now();
      *static_cast<volatile uint8_t*>(host_ + at) = 1;
      *static_cast<volatile uint8_t*>(window_ + at) = 1;
      Longest(&waits.touch, since);
      usleep(500);
    }
    worker.join();
    mapper.join();
    return waits;
  }

  // Kills a process in the middle of the work, and returns how long it takes to die.
  double Kill(double work) const {
    int ready[2];
    if (pipe(ready) != 0) Die("pipe", errno);
    const pid_t pid = fork();
    if (pid < 0) Die("fork", errno);
    if (pid == 0) {
      Fd vm = Prepare();
      if (write(ready[1], "", 1) != 1) _exit(1);
      Do(vm);
      _exit(0);
    }
    char byte;
    if (read(ready[0], &byte, 1) != 1) Die("the worker", errno);
    close(ready[0]);
    close(ready[1]);
    usleep(static_cast<useconds_t>(work / 2));
    const Clock::time_point since = Clock::now();
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return Microseconds(since);
  }

  const Fd& device_;
  const Kind kind_;
  const Work work_;
  Fd mem_;
  Fd stranger_;
  uint8_t* host_;
  uint8_t* window_;
};

void BenchStrangers(const Fd& device) {
  using Work = StrangerBench::Work;
  const std::pair<Work, const char*> works[] = {
      {Work::kPopulate, "populate"},
      {Work::kUnmap, "unmap"},
      {Work::kPunch, "punch"},
      {Work::kEnd, "a VM's end"},
  };
  const std::pair<Kind, const char*> kinds[] = {{Kind::kLive, "live"}, {Kind::kPaged, "paged"}};

  for (const auto& [kind, window] : kinds) {
    std::printf("  a stranger's wait, beside 1 GiB with a %s window\n", window);
    for (const auto& [work, name] : works) StrangerBench(device, kind, work).Run(name);
  }
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

// A thread that serves touches of missing pages until its end.
class PageServer {
 public:
  // Calls @serve when @fd is readable.
  template <typename F>
  PageServer(int fd, F serve) : stop_(eventfd(0, EFD_CLOEXEC), "eventfd") {
    thread_ = std::thread([this, fd, serve] {
      for (;;) {
        pollfd fds[] = {{fd, POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        if (poll(fds, 2, -1) < 0) Die("poll", errno);
        if (fds[1].revents != 0) return;
        serve();
      }
    });
  }
  ~PageServer() {
    eventfd_write(stop_.get(), 1);
    thread_.join();
  }

 private:
  Fd stop_;
  std::thread thread_;
};

// Memory whose missing pages a thread brings through a userfaultfd.
class UserfaultMemory {
 public:
  UserfaultMemory(void* memory, uint64_t size, const std::vector<uint8_t>& contents)
      : memory_(memory),
        size_(size),
        uffd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)), "userfaultfd") {
    if (memory == MAP_FAILED) Die("mmap", errno);
    uffdio_api api = {};
    api.api = UFFD_API;
    if (ioctl(uffd_.get(), UFFDIO_API, &api)) Die("UFFDIO_API", errno);
    uffdio_register range = {};
    range.range.start = reinterpret_cast<uintptr_t>(memory);
    range.range.len = size;
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(uffd_.get(), UFFDIO_REGISTER, &range)) Die("UFFDIO_REGISTER", errno);
    server_.emplace(uffd_.get(), [this, &contents] { Serve(contents); });
  }
  ~UserfaultMemory() {
    server_.reset();
    munmap(memory_, size_);
  }
  const void* memory() const { return memory_; }

 private:
  void Serve(const std::vector<uint8_t>& contents) const {
    uffd_msg message = {};
    if (read(uffd_.get(), &message, sizeof(message)) != sizeof(message)) return;
    uffdio_copy copy = {};
    copy.dst = message.arg.pagefault.address & ~(kPage - 1);
    copy.src = reinterpret_cast<uintptr_t>(contents.data());
    copy.len = kPage;
    if (ioctl(uffd_.get(), UFFDIO_COPY, &copy)) Die("UFFDIO_COPY", errno);
  }

  void* memory_;
  uint64_t size_;
  Fd uffd_;
  std::optional<PageServer> server_;
};

// A touch of a page that another thread has yet to bring, until it goes on: bound in a VM that waits,
// against a userfaultfd. The servers poll, ask for the page, and fill it in one call. A guestmem is
// a file, which other processes can map, as a memfd is. Private memory has no file.
void BenchWait(const Fd& device) {
  constexpr uint64_t kPages = 2000, kSize = kPages * kPage;
  const std::vector<uint8_t> contents(kPage, 0x5a);

  gmem_vm_create create = {};
  create.size = sizeof(create);
  create.flags = GMEM_VM_LIVE | GMEM_VM_WAIT;
  Fd vm(ioctl(device.get(), GMEM_VM_CREATE, &create), "GMEM_VM_CREATE");
  Fd mem = CreateMem(device, kSize);
  uint8_t* window = Map(vm.get(), 0, kSize);
  PageServer ours(vm.get(), [&] {
    gmem_waiter_info info = {};
    gmem_vm_waiters waiters = {};
    waiters.size = sizeof(waiters);
    waiters.nr_entries = 1;
    waiters.entry_size = sizeof(info);
    waiters.entries = reinterpret_cast<uintptr_t>(&info);
    if (ioctl(vm.get(), GMEM_VM_WAITERS, &waiters)) Die("GMEM_VM_WAITERS", errno);
    if (waiters.nr_entries == 0) return;
    gmem_vm_fill fill = {};
    fill.size = sizeof(fill);
    fill.flags = kLend;
    fill.guest_addr = info.guest_addr;
    fill.guest_mem_fd = static_cast<uint32_t>(mem.get());
    fill.offset = info.guest_addr;
    fill.length = kPage;
    fill.source = reinterpret_cast<uintptr_t>(contents.data());
    if (ioctl(vm.get(), GMEM_VM_FILL, &fill)) Die("GMEM_VM_FILL", errno);
  });

  Fd memfd(memfd_create("bench", MFD_CLOEXEC), "memfd_create");
  if (ftruncate(memfd.get(), kSize)) Die("ftruncate", errno);
  const UserfaultMemory file(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0), kSize, contents);
  const UserfaultMemory plain(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), kSize,
      contents);

  Samples our, of_file, of_plain;
  auto touch = [&contents](const void* base, uint64_t page) {
    const auto* at = static_cast<const volatile uint8_t*>(base) + page * kPage;
    if (*at != contents[0]) Die("a page that was brought", EIO);
  };
  for (uint64_t i = 0; i < kPages; ++i) {
    our.Time([&] { touch(window, i); });
    of_file.Time([&] { touch(file.memory(), i); });
    of_plain.Time([&] { touch(plain.memory(), i); });
  }
  Row("wait for a page : userfaultfd on a memfd", our.Median(), of_file.Median(),
      our.Median() / of_file.Median(), 1.0);
  Row("  the same : userfaultfd on private memory", our.Median(), of_plain.Median(),
      our.Median() / of_plain.Median(), 1.0);
  munmap(window, kSize);
}

// Changes 64 MiB, all of which the guest has used, from lent to shared and back, against an unmap
// and a map each. After each step, the guest touches all pages again, outside of the time.
constexpr uint64_t kChangeSize = 64 * kMiB;
constexpr uint64_t kChangeAddr = 16 * kMiB;

void TouchAll(Guest& guest, uint64_t addr) { guest.Touch(addr, kChangeSize / kPage, kPage); }

// The guest's memory is lent before and after.
void TimeChange(Guest& guest, Samples* samples, Samples* whole) {
  const Clock::time_point all = Clock::now();
  double time = 0;
  for (const uint32_t access : {GMEM_MAP_FORCE_SHARE, GMEM_MAP_FORCE_LEND}) {
    const Clock::time_point begin = Clock::now();
    Change(guest.vm(), kChangeAddr, kChangeSize, access);
    time += Microseconds(begin);
    TouchAll(guest, kChangeAddr);
  }
  samples->Add(time);
  whole->Add(Microseconds(all));
}

void BenchChange(const Fd& device, Kind kind, const char* name) {
  Guest guest(device, kind);
  Fd mem = CreateMem(device, kChangeSize);
  Bind(guest.vm(), mem, kChangeAddr, 0, kChangeSize, kLend);
  guest.Refresh(kChangeAddr, kChangeSize);
  TouchAll(guest, kChangeAddr);
  Samples ours, theirs, our_whole, their_whole;
  for (int i = 0; i < 10; ++i) {
    TimeChange(guest, &ours, &our_whole);
    const Clock::time_point all = Clock::now();
    double time = 0;
    for (const uint32_t flags : {kShare, kLend}) {
      const Clock::time_point begin = Clock::now();
      Unbind(guest.vm(), kChangeAddr, kChangeSize);
      Bind(guest.vm(), mem, kChangeAddr, 0, kChangeSize, flags);
      guest.Refresh(kChangeAddr, kChangeSize);
      time += Microseconds(begin);
      TouchAll(guest, kChangeAddr);
    }
    theirs.Add(time);
    their_whole.Add(Microseconds(all));
  }
  const double our = ours.Median(), their = theirs.Median();
  Row(name, our, their, our / their, 0);
  const double our_all = our_whole.Median(), their_all = their_whole.Median();
  Row("  until the guest has all pages again", our_all, their_all, our_all / their_all, 0);
}

// A page goes to the guest, back to the host, and to the guest again. On the other side, memory
// attributes on a guest_memfd make it private, shared, and private again. There, private and shared
// memory are two memories. A conversion leaves both in place, unless the VMM frees the side that
// isn't used, as QEMU does. So there are two rows: gmem has one memory.
class ConvertBench {
 public:
  explicit ConvertBench(const Fd& device)
      : device_(device), guest_(device, Kind::kLive), mem_(CreateMem(device, kMiB)) {}

  int Run() {
    const char* missing = SetUpTheirs();
    if (missing) {
      std::printf("lend, reclaim, lend : guest_memfd conversion    not measured: %s\n", missing);
      return 0;
    }
    uint8_t* host = Map(mem_.get(), 0, kMiB);
    Bind(guest_.vm(), mem_, 16 * kMiB, 0, kPage, kLend);
    guest_.Refresh(16 * kMiB, kPage);
    Samples ours, lend, again, reclaim, theirs, to_private, use, to_shared, freeing;
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
      freeing.Time([&] {
        ConvertAndFree(true, kFreedPage, kPage);
        TheirTouch(kFreedPage);
        ConvertAndFree(false, kFreedPage, kPage);
        shared_[kFreedPage] = 1;
      });
      // The cost of a touch that changes nothing: mostly the agent's exits.
      guest_.Touch(16 * kMiB, 1, 0);
      again.Time([&] { guest_.Touch(16 * kMiB, 1, 0); });
      host[0] = 1;
    }
    const double our = ours.Median(), freed = freeing.Median(), their = theirs.Median();
    Row("lend + reclaim : guest_memfd conversion, freeing", our, freed, our / freed, 1.0);
    Row("  the same : conversion, both memories stay", our, their, our / their, 0);
    std::printf(
        "  ours: %.0f us the guest's touch (%.0f us when lent already), %.0f us the host's;\n"
        "  theirs: %.0f us to private, %.0f us the guest's touch, %.0f us to shared\n",
        lend.Median(), again.Median(), reclaim.Median(), to_private.Median(), use.Median(),
        to_shared.Median());
    munmap(host, kMiB);
    BenchChanges();
    return 0;
  }

 private:
  static constexpr uint64_t kTheirPage = 0x10000;
  static constexpr uint64_t kFreedPage = 0x20000;
  static constexpr uint64_t kTheirSize = kChangeAddr + kChangeSize;

  // 64 MiB, all of which the guest uses between two steps.
  void BenchChanges() {
    Fd mem = CreateMem(device_, kChangeSize);
    Unbind(guest_.vm(), kChangeAddr, kChangeSize);
    Bind(guest_.vm(), mem, kChangeAddr, 0, kChangeSize, kLend);
    guest_.Refresh(kChangeAddr, kChangeSize);
    TouchAll(guest_, kChangeAddr);
    SetPrivate(true, kChangeAddr, kChangeSize);
    TheirTouch(kChangeAddr, kChangeSize / kPage);
    BenchChange("change of 64 MiB + back : conversion, freeing", [this](bool to_private) {
      ConvertAndFree(to_private, kChangeAddr, kChangeSize);
    });
    // Afterwards, both sides' memory is there.
    for (const bool to_private : {false, true}) {
      SetPrivate(to_private, kChangeAddr, kChangeSize);
      TheirTouch(kChangeAddr, kChangeSize / kPage);
    }
    BenchChange("  the same : conversion, both memories stay", [this](bool to_private) {
      SetPrivate(to_private, kChangeAddr, kChangeSize);
    });
  }

  template <typename F>
  void BenchChange(const char* name, F convert) {
    Samples ours, theirs, our_whole, their_whole;
    for (int i = 0; i < 5; ++i) {
      TimeChange(guest_, &ours, &our_whole);
      const Clock::time_point all = Clock::now();
      double time = 0;
      for (const bool to_private : {false, true}) {
        const Clock::time_point begin = Clock::now();
        convert(to_private);
        time += Microseconds(begin);
        TheirTouch(kChangeAddr, kChangeSize / kPage);
      }
      theirs.Add(time);
      their_whole.Add(Microseconds(all));
    }
    const double our = ours.Median(), their = theirs.Median();
    Row(name, our, their, our / their, 0);
    const double our_all = our_whole.Median(), their_all = their_whole.Median();
    Row("  until the guest has all pages again", our_all, their_all, our_all / their_all, 0);
  }

  // Frees the memory of the side that loses the range.
  void ConvertAndFree(bool to_private, uint64_t address, uint64_t size) {
    SetPrivate(to_private, address, size);
    if (to_private) {
      if (madvise(shared_ + address, size, MADV_REMOVE)) Die("MADV_REMOVE", errno);
    } else if (fallocate(memfd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(address), static_cast<off_t>(size))) {
      Die("fallocate", errno);
    }
  }

  void SetPrivate(bool to_private, uint64_t address = kTheirPage, uint64_t size = kPage) const {
    kvm_memory_attributes attributes = {};
    attributes.address = address;
    attributes.size = size;
    attributes.attributes = to_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
    if (ioctl(their_.vm, KVM_SET_MEMORY_ATTRIBUTES, &attributes)) {
      Die("KVM_SET_MEMORY_ATTRIBUTES", errno);
    }
  }

  void TheirTouch(uint64_t address = kTheirPage, uint64_t count = 1) {
    int err = kvm_agent_touch(&their_, static_cast<uint32_t>(address), static_cast<uint32_t>(count),
                              kPage);
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
    create.size = kTheirSize;
    memfd_ = ioctl(their_.vm, KVM_CREATE_GUEST_MEMFD, &create);
    if (memfd_ < 0) return "this KVM has no guest_memfd";
    void* memory =
        mmap(nullptr, kTheirSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) Die("mmap", errno);
    shared_ = static_cast<uint8_t*>(memory);
    std::memcpy(shared_ + kCode, kvm_agent_code, sizeof(kvm_agent_code));
    kvm_userspace_memory_region2 region = {};
    region.flags = KVM_MEM_GUEST_MEMFD;
    region.memory_size = kTheirSize;
    region.userspace_addr = reinterpret_cast<uintptr_t>(memory);
    region.guest_memfd = static_cast<uint32_t>(memfd_);
    if (ioctl(their_.vm, KVM_SET_USER_MEMORY_REGION2, &region)) {
      Die("KVM_SET_USER_MEMORY_REGION2", errno);
    }
    their_.vcpu = ioctl(their_.vm, KVM_CREATE_VCPU, 0);
    if (their_.vcpu < 0) Die("KVM_CREATE_VCPU", errno);
    int err = kvm_agent_set_up_vcpu(&their_);
    if (err) Die("vCPU", -err);
    return nullptr;
  }

  const Fd& device_;
  Guest guest_;
  Fd mem_;
  kvm_agent their_ = {};
  int memfd_ = -1;
  uint8_t* shared_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  if (const auto status = HandleArguments(
          "gmem-bench", {"wait", "fallback", "strangers", "change", "convert"}, argc, argv)) {
    return *status;
  }
  Fd device = OpenDevice();
  Header();
  if (argc > 1 && std::string(argv[1]) == "strangers") {
    BenchStrangers(device);
    return 0;
  }
  if (argc > 1 && std::string(argv[1]) == "wait") {
    BenchWait(device);
    return 0;
  }
  if (argc > 1 && std::string(argv[1]) == "convert") return ConvertBench(device).Run();

  if (argc > 1 && std::string(argv[1]) == "change") {
    BenchChange(device, Kind::kLive, "change of 64 MiB + back : unmap + map");
    BenchChange(device, Kind::kPaged, "  the same with a paged window");
    return 0;
  }
  if (argc > 1 && std::string(argv[1]) == "fallback") {
    BenchFallback(device);
    return 0;
  }

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
  BenchWait(device);
  BenchFallback(device);
  BenchChange(device, Kind::kLive, "change of 64 MiB + back : unmap + map");
  BenchChange(device, Kind::kPaged, "  the same with a paged window");
  BenchStrangers(device);
  BenchMany(device);
  return 0;
}
