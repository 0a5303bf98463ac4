// SPDX-License-Identifier: MIT OR Apache-2.0
// minivmm-gunyah KERNEL INITRAMFS: boots an unmodified arm64 Linux with two CPUs on lent memory
// under Gunyah, serves a ring in memory that is shared with it, and touches memory that is lent.
// With --disk, it also gives the guest a disk, by a pool of shared memory. Prints its checks, with
// the guest's console in between. Exits with 1 if a check failed.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "arm64_boot.h"
#include "base/program.h"
#include "console.h"
#include "demo.h"
#include "disk_pattern.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/boot.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gmem/vm.h"
#include "gunyah_function.h"
#include "gunyah_machine.h"
#include "host.h"
#include "or_die.h"
#include "pool_disk.h"
#include "ring_server.h"

ABSL_FLAG(bool, disk, false,
          "give the guest a disk through a restricted-dma-pool, for which Linux needs "
          "CONFIG_DMA_RESTRICTED_POOL, and a host that gives memory on demand");

namespace minivmm {
namespace {

using gmem::GuestAddress;
namespace gunyah = gmem::gunyah;

constexpr uint32_t kNrCpus = 2;
constexpr gmem::GuestRange kRam = {GuestAddress(0x80000000), gmem::MiB(128)};
constexpr gmem::GuestRange kShared = {GuestAddress(0xc0000000), gmem::KiB(64)};
// The disk sees this memory of the guest, and no other.
constexpr gmem::GuestRange kPool = {GuestAddress(0xd0000000), gmem::MiB(2)};
constexpr gunyah::MmioDevice kDisk = gunyah::UsualVirtio(1);
constexpr uint32_t kNrBlocks = 32;
// A device's register that the guest's program writes to.
constexpr GuestAddress kBell(0xa000000);
constexpr uint32_t kNrNumbers = 1000;
constexpr gmem::ByteSize kPageSize = gmem::KiB(4);

// Linux must use the serial console, and skip steps that take long in an emulated machine.
constexpr char kCommandLine[] =
    "console=ttyS0,115200 quiet panic=-1 nokaslr mitigations=off init_on_alloc=0 audit=0 "
    "lsm=capability cryptomgr.notests";

GuestAddress AddressOf(gmem::ByteOffset offset) {
  return GuestAddress(kRam.start.value() + offset.value());
}

// Loads Linux, and makes its start ready.
std::vector<gunyah::Vcpu> LoadGuest(const gmem::Vm& vm, const gmem::GuestMemory& ram,
                                    const gmem::Mapping& host, const char* kernel,
                                    const char* initramfs, bool has_disk) {
  const Arm64Placement placement =
      OrDie(LoadArm64Linux(host.span(), MapFile(kernel).span(), MapFile(initramfs).span()));
  gunyah::Machine machine = {
      .nr_cpus = kNrCpus,
      .boot_args = kCommandLine,
      .initrd = gmem::GuestRange{AddressOf(placement.initramfs.start), placement.initramfs.size},
      .uart = gunyah::kUsualUart};
  if (has_disk) {
    machine.virtio = {kDisk};
    machine.dma_pool = kPool;
  }
  const gunyah::DeviceTree tree = OrDie(gunyah::MakeDeviceTree(machine));
  return OrDie(gunyah::PrepareStart(vm, ram, tree,
                                    {.entry = AddressOf(placement.entry),
                                     .device_tree = AddressOf(placement.tree.start),
                                     .config = {.image_name = "minivmm"}}));
}

// Has the disk what the guest has written, and nothing else?
bool HasPattern(const PoolDisk& disk) {
  const std::vector<uint32_t> words = disk.Read();
  for (uint32_t i = 0; i < words.size(); i++) {
    const uint32_t block = i / DISK_BLOCK_WORDS;
    const uint32_t word = block < kNrBlocks ? disk_word(block, i % DISK_BLOCK_WORDS) : 0;
    if (words[i] != word) return false;
  }
  return true;
}

// The guest's program writes and reads its disk by way of its own page, which is lent.
void UseDisk(GuestProgram<GunyahMachine>& guest, PoolDisk& disk, const volatile uint32_t* own_word,
             Checks& check) {
  const uint64_t nr_same = LastNumber(guest.Type(absl::StrCat("disk ", kNrBlocks)));
  check(nr_same == kNrBlocks,
        absl::StrCat("a disk: the guest reads what it wrote, ", nr_same, " blocks"));
  check(HasPattern(disk), "the disk's image has what the guest wrote");
  const absl::Status status = disk.registers().status();
  check(status.ok(), absl::StrCat("the device used nothing but the pool: ",
                                  status.ok() ? "OK" : status.message()));
  check(!Peek(own_word), "the host gets SIGBUS from the guest's buffer, which is lent");
}

// Returns the number of failed checks.
int Demo(const gmem::Device& device, const char* kernel, const char* initramfs) {
  Console console([] { return std::vector<std::string>(); });
  Checks check(&device, &console);

  console.Print("\n1. Boot Linux on lent memory");
  auto vm = std::make_unique<gmem::Vm>(OrDie(
      device.CreateVm({.provider = gunyah::kProvider, .policy = gmem::ReclaimPolicy::kDeny})));
  auto ram = std::make_unique<gmem::GuestMemory>(OrDie(device.CreateGuestMemory(kRam.size)));
  auto shared = std::make_unique<gmem::GuestMemory>(OrDie(device.CreateGuestMemory(kShared.size)));
  gmem::Mapping ram_host = OrDie(ram->Map()), shared_host = OrDie(shared->Map());
  OrDie(vm->Map(*ram, {.guest_address = kRam.start, .size = kRam.size}));
  OrDie(vm->Map(*shared, {.guest_address = kShared.start,
                          .size = kShared.size,
                          .mode = gmem::MapMode::kShare,
                          .execute = false}));
  const bool has_disk = absl::GetFlag(FLAGS_disk);
  auto disk = has_disk ? std::make_unique<PoolDisk>(device, *vm, kPool, kDisk) : nullptr;
  std::vector<gunyah::Vcpu> vcpus = LoadGuest(*vm, *ram, ram_host, kernel, initramfs, has_disk);
  check(OrDie(ram->Query()).lent == 0, "loaded by the host; nothing is lent");

  // The second page: the first one is for words.
  auto* const shared_ring = reinterpret_cast<ring*>(shared_host.data() + kPageSize.value());
  auto server = std::make_unique<RingServer>(shared_ring, AddIoeventfd(*vm, kBell));
  auto machine = std::make_unique<GunyahMachine>(*vm, std::move(vcpus), &console, disk.get());
  const GuestAddress own_page(LastNumber(console.Await("guest: page ")));
  const gmem::PageCounts booted = OrDie(ram->Query());
  check(booted.lent > 0, absl::StrCat("Linux is up; MEM_QUERY: ", booted.lent, " pages lent, ",
                                      booted.host, " host, ", booted.absent, " absent"));

  // From now on, the guest's program reads and writes memory on command.
  GuestProgram guest(machine.get(), &console);
  check(LastNumber(guest.Type("cpus")) == kNrCpus, absl::StrCat("it has ", kNrCpus, " CPUs"));

  console.Print("\n2. Share memory");
  auto* const shared_word = reinterpret_cast<volatile uint32_t*>(shared_host.data());
  guest.Write(kShared.start, 42);
  check(Peek(shared_word) == 42u, "the host reads 42, which the guest wrote");
  check(Poke(shared_word, 43) && guest.Read(kShared.start) == 43,
        "the guest reads 43, which the host wrote");

  const GuestAddress ring_address = kShared.start + kPageSize;
  const uint64_t sum = LastNumber(guest.Type(absl::StrCat(
      "ring ", gmem::ToString(ring_address), " ", gmem::ToString(kBell), " ", kNrNumbers)));
  check(sum == uint64_t{kNrNumbers} * (kNrNumbers + 1) && server->NrRings() == kNrNumbers,
        absl::StrCat("a ring: ", kNrNumbers, " numbers, ", server->NrRings(), " signals"));

  const gmem::ByteRange page = {gmem::ByteOffset((own_page - kRam.start).value()), kPageSize};
  auto* const own_word = reinterpret_cast<volatile uint32_t*>(ram_host.span(page).data());
  if (disk != nullptr) UseDisk(guest, *disk, own_word, check);

  console.Print("\n3. Touch memory that is lent");
  guest.Write(own_page, 44);
  check(!Peek(own_word), "the host gets SIGBUS");
  check(guest.Read(own_page) == 44, "the guest reads what it wrote");

  console.Print("\n4. Power off");
  const std::string answer = guest.Type("poweroff");
  const gunyah::EndExit end = machine->Wait();
  check(answer == "guest: bye" && end.status == gunyah::EndExit::Status::kExited &&
            end.type == gunyah::EndExit::Type::kOff,
        absl::StrCat("the guest says bye: ", gunyah::ToString(end)));
  machine.reset();
  server.reset();
  disk.reset();
  vm.reset();
  ram_host.Reset();
  shared_host.Reset();
  ram.reset();
  shared.reset();
  check.NothingIsLeft();
  return check.failures();
}

absl::StatusOr<int> Run(tools::Words words) { return RunDemo(words, Demo); }

}  // namespace
}  // namespace minivmm

int main(int argc, char** argv) {
  return tools::RunProgram({.name = "minivmm-gunyah",
                            .run = minivmm::Run,
                            .usage = "minivmm-gunyah [--disk] KERNEL INITRAMFS",
                            .summary = "boots Linux on lent memory under Gunyah"},
                           argc, argv);
}
