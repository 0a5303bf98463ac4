// SPDX-License-Identifier: MIT OR Apache-2.0
// The front-end of a vhost-user-blk device: asks for its size, starts and stops a virtqueue.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "gmem/vhost/frontend.h"
#include "or_die.h"

namespace vhost = gmem::vhost;
constexpr uint64_t kRamSize = 1 << 20, kUser = 0x10000000;
int main(int argc, char** argv) {
  if (argc != 2) Die(absl::InvalidArgumentError("usage: vhost-frontend SOCKET"));
  const auto device = OrDie(vhost::Frontend::Create(
      OrDie(vhost::Connection::Connect(argv[1], absl::Seconds(5))), {.only_sealed_memory = true}));
  OrDie(device->Negotiate());
  OrDie(device->SetFeatures(device->features() & vhost::Bit(vhost::VirtioFeature::kVersion1)));
  uint64_t sectors;
  std::memcpy(&sectors, OrDie(device->GetConfig(0, sizeof(sectors))).data(), sizeof(sectors));
  std::printf("sectors: %" PRIu64 "\n", sectors);

  // The guest's memory, with a virtqueue of 64 entries at its start.
  const gmem::UniqueFd ram(
      OrDie(memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create"));
  OrDie(ftruncate(ram.get(), kRamSize), "ftruncate");
  // The device has the descriptor, but can't shorten the guest's memory.
  OrDie(fcntl(ram.get(), F_ADD_SEALS, F_SEAL_SHRINK), "F_ADD_SEALS");
  OrDie(device->SetMemory(
      {{.size = gmem::ByteSize(kRamSize), .user_address = kUser, .fd = ram.get()}}));
  const gmem::UniqueFd kick(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  const gmem::UniqueFd call(OrDie(eventfd(0, EFD_CLOEXEC), "eventfd"));
  vhost::VringSetup ring = {.size = 64, .kick_fd = kick.get(), .call_fd = call.get()};
  ring.address.descriptor = kUser;
  ring.address.available = kUser + 0x1000;
  ring.address.used = kUser + 0x2000;
  OrDie(device->StartVring(0, ring));
  OrDie(device->DriverOk());
  std::printf("stopped at: %" PRIu32 "\n", OrDie(device->GetVringBase(0)));
}
