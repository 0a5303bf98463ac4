// SPDX-License-Identifier: MIT OR Apache-2.0
// A device maps pieces of a file into a guest that runs.
// Documentation/libgmem/map-file.rst goes through it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "gmem/device.h"
#include "gmem/memory_mapper.h"
#include "gmem/vm_memory_mapper.h"
#include "gmem/window.h"
#include "or_die.h"

// A device's cache of a file: the guest asks for a part of the file and finds it in the region.
class FileCache {
 public:
  // @mapper is the device's region of guest memory, over any kind of VM.
  FileCache(gmem::MemoryMapper* mapper, int file) : mapper_(mapper), file_(file) {}

  absl::Status Fetch(gmem::ByteOffset part, gmem::ByteOffset where, gmem::ByteSize size) {
    return mapper_->Map({.fd = file_,
                         .fd_offset = part,
                         .offset = where,
                         .size = size,
                         .access = gmem::MemoryAccess::kReadOnly});
  }
  absl::Status Drop(gmem::ByteOffset where, gmem::ByteSize size) {
    return mapper_->Unmap({where, size});
  }

 private:
  gmem::MemoryMapper* const mapper_;
  const int file_;
};

gmem::UniqueFd MakeFile() {
  gmem::UniqueFd file(OrDie(memfd_create("file", MFD_CLOEXEC), "memfd_create"));
  const std::string pages[] = {"page 0", "page 1", "page 2"};
  OrDie(ftruncate(file.get(), 3 * 4096), "ftruncate");
  for (int i = 0; i < 3; ++i) {
    OrDie(pwrite(file.get(), pages[i].data(), pages[i].size(), i * 4096), "pwrite");
  }
  return file;
}

int main() {
  // Guest addresses from 0 on are RAM; 1 MiB behind it is the device's region.
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory = OrDie(device.CreateGuestMemory(gmem::MiB(1)));
  const gmem::Vm vm = OrDie(device.CreateVm());
  OrDie(vm.Map(memory, {.size = memory.size()}));
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(2)}));
  const gmem::GuestRange region = {gmem::GuestAddress(0x100000), gmem::MiB(1)};
  const std::unique_ptr<gmem::MemoryMapper> mapper =
      OrDie(gmem::NewVmMemoryMapper(&window, region));

  const gmem::UniqueFd file = MakeFile();
  FileCache cache(mapper.get(), file.get());
  OrDie(cache.Fetch(gmem::ByteOffset(0x1000), gmem::ByteOffset(0x8000), gmem::KiB(8)));
  // This process plays the guest: a touch of the window counts as the guest's.
  const auto* guest = reinterpret_cast<const char*>(window.data()) + region.start.value();
  std::printf("the guest reads: %s\n", guest + 0x8000);
  std::printf("the guest reads: %s\n", guest + 0x9000);

  // A write to the file is a write to the guest's memory: they are the same pages.
  OrDie(pwrite(file.get(), "PAGE", 4, 0x1000), "pwrite");
  std::printf("the guest reads: %s\n", guest + 0x8000);

  // A place is free again when its piece is unmapped, as a whole.
  const absl::Status refused =
      cache.Fetch(gmem::ByteOffset(0), gmem::ByteOffset(0x9000), gmem::KiB(4));
  std::printf("%s\n", absl::IsAlreadyExists(refused) ? "the place is taken" : "?");
  OrDie(cache.Drop(gmem::ByteOffset(0x8000), gmem::KiB(8)));
  OrDie(cache.Fetch(gmem::ByteOffset(0), gmem::ByteOffset(0x9000), gmem::KiB(4)));
  std::printf("the guest reads: %s\n", guest + 0x9000);
}
