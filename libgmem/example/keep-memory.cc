// SPDX-License-Identifier: MIT OR Apache-2.0
// A service whose VM outlives it: systemd keeps the descriptors while the service restarts.
// Documentation/libgmem/fd-store.rst goes through it.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "absl/time/time.h"
#include "gmem/device.h"
#include "gmem/kvm/fd_store.h"
#include "gmem/kvm/fd_table.h"
#include "gmem/window.h"
#include "or_die.h"

// This process plays a guest, too: a touch of a window counts as the guest's.
constexpr size_t kGuestByte = 0x5000;

struct Guest {
  gmem::Vm vm;
  gmem::GuestMemory memory;
};

// The first start: make a VM, and let systemd keep it before the guest runs.
Guest Begin() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  Guest guest = {OrDie(device.CreateVm()), OrDie(device.CreateGuestMemory(gmem::MiB(1)))};
  OrDie(guest.vm.Map(guest.memory, {.size = guest.memory.size()}));
  const auto store = OrDie(gmem::kvm::FdStore::Open(getenv("NOTIFY_SOCKET")));
  OrDie(store.Store("vm", guest.vm.fd()));
  OrDie(store.Store("ram", guest.memory.fd()));
  OrDie(store.Sync(absl::Seconds(10)));
  return guest;
}

int main() {
  // Inherit before the program opens anything else.
  gmem::kvm::FdTable table = OrDie(gmem::kvm::FdTable::Inherit(getenv));
  unsetenv(gmem::kvm::FdTable::kVariable);
  const bool is_new = table.Find("vm") < 0;
  const Guest guest = is_new ? Begin()
                             : Guest{OrDie(gmem::Vm::Adopt(OrDie(table.Take("vm")))),
                                     OrDie(gmem::GuestMemory::Adopt(OrDie(table.Take("ram"))))};
  std::printf("%s: pages lent: %" PRIu64 "\n", is_new ? "first start" : "restarted",
              OrDie(guest.memory.Query()).lent);

  const gmem::Window window = OrDie(gmem::Window::Create(guest.vm, {.size = gmem::MiB(1)}));
  window.data()[kGuestByte] += 1;
  std::printf("the guest counts: %d\n", window.data()[kGuestByte]);
}
