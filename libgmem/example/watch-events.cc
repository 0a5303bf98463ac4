// SPDX-License-Identifier: MIT OR Apache-2.0
// Prints the events of the host's VMs and their memory, while a VM comes and goes.
// Documentation/libgmem/watch-events.rst goes through it.
#include <poll.h>

#include <iostream>

#include "gmem/device.h"
#include "gmem/monitor.h"
#include "gmem/window.h"
#include "or_die.h"

void Print(const gmem::Event& event) {
  std::cout << gmem::ToString(event.type);
  if (!event.name.empty()) std::cout << " " << event.name;
  if (event.guest_address && event.size.value() != 0) {
    std::cout << " " << gmem::GuestRange{*event.guest_address, event.size};
  }
  if (event.cause) std::cout << " cause " << gmem::ToString(*event.cause);
  if (event.reason) std::cout << " reason " << gmem::ToString(*event.reason);
  if (event.lost != 0) std::cout << " lost " << event.lost;
  std::cout << "\n";
}

// Creates and ends the VM that this program watches. The process plays the guest: a touch of a
// window counts as the guest's.
void LiveAndDie() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory memory =
      OrDie(device.CreateGuestMemory(gmem::MiB(1), {.name = "ram of guest-1"}));
  const gmem::Mapping host = OrDie(memory.Map());
  const gmem::Vm vm = OrDie(device.CreateVm({.name = "guest-1"}));
  OrDie(vm.Map(memory, {.size = memory.size(), .mode = gmem::MapMode::kLend}));
  const gmem::Window window = OrDie(gmem::Window::Create(vm, {.size = gmem::MiB(1)}));
  window.data()[0x5000] = 1;  // lent
  host.data()[0x5000] = 2;    // taken back
}

int main() {
  gmem::Monitor monitor = OrDie(gmem::Monitor::Open());
  // First subscribe, then ask: a change in between is an event.
  OrDie(monitor.Subscribe());
  std::cout << OrDie(monitor.Vms()).size() << " VMs\n";

  LiveAndDie();

  // Until the guestmem is gone.
  for (;;) {
    pollfd ready = {monitor.fd(), POLLIN, 0};
    OrDie(poll(&ready, 1, -1), "poll");
    for (const gmem::Event& event : OrDie(monitor.ReadEvents())) {
      Print(event);
      if (event.type == gmem::EventType::kMemoryDestroyed) return 0;
    }
  }
}
