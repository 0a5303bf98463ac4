// SPDX-License-Identifier: MIT OR Apache-2.0
// Uses the library from outside its tree: prints the abilities of this host's gmem, or the reason
// why it can't. An argument names another device than /dev/gmem.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gmem/device.h"
#include "gmem/guest_memory.h"
#include "gmem/types.h"
#include "gmem/vm.h"

namespace {

absl::Status Describe(const char* path) {
  absl::StatusOr<gmem::Device> device = gmem::Device::Open(path);
  if (!device.ok()) return device.status();
  absl::StatusOr<gmem::DeviceInfo> info = device->Info();
  if (!info.ok()) return info.status();
  for (const gmem::ProviderInfo& provider : info->providers) {
    std::printf("provider %s, %d-bit guest addresses\n", provider.name.c_str(),
                provider.max_guest_address_bits);
  }

  absl::StatusOr<gmem::GuestMemory> memory = device->CreateGuestMemory(gmem::MiB(64));
  if (!memory.ok()) return memory.status();
  absl::StatusOr<gmem::Vm> vm = device->CreateVm();
  if (!vm.ok()) return vm.status();
  absl::Status status = vm->Map(*memory, {.size = memory->size(), .mode = gmem::MapMode::kLend});
  if (status.ok()) std::printf("%s can be lent\n", gmem::ToString(memory->size()).c_str());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  const absl::Status status = Describe(argc > 1 ? argv[1] : gmem::Device::kPath);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}
