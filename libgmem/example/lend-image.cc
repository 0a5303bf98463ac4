// SPDX-License-Identifier: MIT OR Apache-2.0
// lend-image FILE: puts a kernel image into guest memory and lends it to a guest: the host loses
// it. Documentation/libgmem/lend-image.rst goes through it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>

#include "gmem/device.h"
#include "or_die.h"

// The place of the image in the guest memory. The memory begins at guest address 0, so this is the
// guest's address, too.
constexpr gmem::ByteOffset kImage = gmem::ByteOffset(0) + gmem::MiB(1);

// Reads a whole file into guest memory, without a copy in other memory of this process. Returns
// the range of the image, in whole pages.
gmem::ByteRange Load(const char* path, const gmem::GuestMemory& memory) {
  const gmem::UniqueFd file(OrDie(open(path, O_RDONLY | O_CLOEXEC), path));
  struct stat st;
  OrDie(fstat(file.get(), &st), path);
  const uint64_t page = memory.page_size().value();
  const gmem::ByteSize size((static_cast<uint64_t>(st.st_size) + page - 1) / page * page);

  // Map() fails, with a message, if the image is empty or doesn't fit.
  const gmem::Mapping target = OrDie(memory.Map({kImage, size}));
  size_t done = 0;
  while (done < target.size()) {
    const ssize_t n = OrDie(read(file.get(), target.data() + done, target.size() - done), path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return {kImage, size};
}

// Can this process read there? A load could end the process with SIGBUS. A system call that reads
// there returns an error instead.
bool CanRead(const uint8_t* address) {
  int ends[2];
  OrDie(pipe2(ends, O_CLOEXEC), "pipe2");
  const gmem::UniqueFd source(ends[0]), sink(ends[1]);
  return write(sink.get(), address, 1) == 1;
}

void PrintCounts(const char* when, const gmem::GuestMemory& memory, gmem::ByteRange range) {
  const gmem::PageCounts counts = OrDie(memory.Query(range));
  std::printf("%s: host %" PRIu64 ", lent %" PRIu64 "\n", when, counts.host, counts.lent);
}

int main(int argc, char** argv) {
  if (argc != 2) Die(absl::InvalidArgumentError("usage: lend-image FILE"));
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(64)));
  const gmem::ByteRange image = Load(argv[1], memory);
  const gmem::Mapping host = OrDie(memory.Map(image));
  PrintCounts("loaded", memory, image);
  std::printf("readable: %s\n", CanRead(host.data()) ? "yes" : "no");
  {
    // kDeny: the host can't take back the pages that it has lent.
    const gmem::Vm vm = OrDie(device.CreateVm({.policy = gmem::ReclaimPolicy::kDeny}));
    OrDie(vm.Map(memory, {.size = memory.size(), .mode = gmem::MapMode::kLend}));
    const gmem::GuestRange guest = {gmem::GuestAddress(kImage.value()), image.size};
    // Without this, each page is lent when the guest first uses it.
    OrDie(vm.Populate(guest));
    PrintCounts("populated", memory, image);
    std::printf("readable: %s\n", CanRead(host.data()) ? "yes" : "no");
    const absl::Status status = vm.Reclaim(guest);
    std::printf("reclaim: %s\n", absl::StatusCodeToString(status.code()).c_str());
  }
  // The VM is gone. Its pages were lent under kDeny, so they come back zeroed.
  PrintCounts("VM gone", memory, image);
  for (const uint8_t byte : host.span()) {
    if (byte != 0) Die(absl::InternalError("the image is still there"));
  }
  std::printf("all zeroes\n");
}
