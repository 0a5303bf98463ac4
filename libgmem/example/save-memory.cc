// SPDX-License-Identifier: MIT OR Apache-2.0
// save-memory FILE: saves guest memory to a sparse file, without the pages that were never used,
// and loads it again. Documentation/libgmem/save-memory.rst goes through it.
#include <fcntl.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "gmem/device.h"
#include "or_die.h"

const char* Name(gmem::PageState state) {
  switch (state) {
    case gmem::PageState::kAbsent:
      return "absent";
    case gmem::PageState::kHost:
      return "host";
    case gmem::PageState::kLent:
      return "lent";
    case gmem::PageState::kShared:
      return "shared";
    case gmem::PageState::kLeaked:
      return "leaked";
  }
  return "unknown";
}

void PrintRuns(const gmem::GuestMemory& memory) {
  OrDie(memory.ForEachRun({gmem::ByteOffset(0), memory.size()}, [](const gmem::PageRun& run) {
    std::printf("%6s from page %" PRIu64 " on: %" PRIu64 " pages\n", Name(run.state),
                run.range.start.value() / 4096, run.range.size.value() / 4096);
    return true;
  }));
}

// The guest must not run meanwhile. Returns how many bytes there are to save.
uint64_t Save(const gmem::GuestMemory& memory, int file) {
  const gmem::Mapping host = OrDie(memory.Map(gmem::MemoryAccess::kReadOnly));
  OrDie(ftruncate(file, static_cast<off_t>(memory.size().value())), "ftruncate");
  uint64_t saved = 0;
  for (const gmem::PageRun& run : OrDie(memory.Runs())) {
    if (run.state == gmem::PageState::kAbsent || run.state == gmem::PageState::kLeaked) continue;
    const uint64_t end = run.range.end().value();
    for (uint64_t at = run.range.start.value(); at < end;) {
      // The kernel reads lent pages, too: it takes them back from the guest.
      const ssize_t n =
          OrDie(pwrite(file, host.data() + at, end - at, static_cast<off_t>(at)), "pwrite");
      at += static_cast<uint64_t>(n);
      saved += static_cast<uint64_t>(n);
    }
  }
  return saved;
}

// Pages without data in the file stay absent.
void Load(int file, const gmem::GuestMemory& memory) {
  const gmem::Mapping host = OrDie(memory.Map());
  off_t at = 0;
  while ((at = lseek(file, at, SEEK_DATA)) >= 0) {
    const off_t end = OrDie(lseek(file, at, SEEK_HOLE), "lseek");
    while (at < end) {
      at += OrDie(pread(file, host.data() + at, static_cast<size_t>(end - at), at), "pread");
    }
  }
}

int main(int argc, char** argv) {
  if (argc != 2) Die(absl::InvalidArgumentError("usage: save-memory FILE"));
  const gmem::UniqueFd file(
      OrDie(open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), argv[1]));
  const gmem::Device device = OrDie(gmem::Device::Open());

  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(64)));
  const gmem::Mapping host = OrDie(memory.Map());
  std::memset(host.data(), 0x11, 4 * 4096);
  std::memset(host.data() + 1000 * 4096, 0x22, 8 * 4096);
  const gmem::Vm vm = OrDie(device.CreateVm());
  OrDie(vm.Map(memory, {.size = memory.size()}));
  OrDie(vm.Populate({gmem::GuestAddress(2 * 4096), gmem::KiB(8)}));
  PrintRuns(memory);
  std::printf("saved: %" PRIu64 " KiB\n", Save(memory, file.get()) / 1024);

  const gmem::GuestMemory copy = OrDie(device.CreateGuestMemory(memory.size()));
  Load(file.get(), copy);
  PrintRuns(copy);
  const gmem::Mapping loaded = OrDie(copy.Map());
  const bool is_equal = std::memcmp(host.data(), loaded.data(), 4 * 4096) == 0 &&
                        std::memcmp(host.data() + 1000 * 4096, loaded.data() + 1000 * 4096,
                                    8 * 4096) == 0;
  std::printf("equal: %s\n", is_equal ? "yes" : "no");
}
