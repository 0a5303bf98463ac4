// SPDX-License-Identifier: MIT OR Apache-2.0
// A guest of a few instructions under Gunyah: see Documentation/libgmem/gunyah-vm.rst.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <variant>
#include <vector>

#include "gmem/device.h"
#include "gmem/gunyah.h"
#include "gmem/gunyah/boot.h"
#include "gmem/gunyah/machine.h"
#include "or_die.h"

namespace gunyah = gmem::gunyah;

constexpr gmem::GuestAddress kRam(0x80000000), kShared(0x90000000);
// Write the text to the UART, byte by byte, and 42 to kShared; switch off.
constexpr uint32_t kGuestCode[] = {
    0x100001a1,  // adr x1, text
    0xd2a12002,  // mov x2, #0x9000000: kUsualUart
    0x38401423,  // 1: ldrb w3, [x1], #1
    0x34000063,  // cbz w3, 2f
    0x39000043,  // strb w3, [x2]
    0x17fffffd,  // b 1b
    0xd2b20004,  // 2: mov x4, #0x90000000: kShared
    0x52800545,  // mov w5, #42
    0xb9000085,  // str w5, [x4]
    0x52b08000,  // mov w0, #0x84000000
    0x72800100,  // movk w0, #8: PSCI SYSTEM_OFF
    0xd4000002,  // hvc #0
    0x14000000,  // b .
};
constexpr char kText[] = "Hello from Gunyah!\n";

// Copies the program to the start of the guest's RAM.
void Load(const gmem::GuestMemory& memory) {
  const gmem::Mapping host = OrDie(memory.Map());
  std::memcpy(host.data(), kGuestCode, sizeof(kGuestCode));
  std::memcpy(host.data() + sizeof(kGuestCode), kText, sizeof(kText));
}

// Runs the guest until its end, and prints what it sends.
void Run(gunyah::Vcpu& vcpu) {
  constexpr gmem::GuestRange kUart = gunyah::kUsualUart.registers;
  for (;;) {
    const gunyah::Exit exit = OrDie(vcpu.Run());
    const auto* mmio = std::get_if<gunyah::MmioExit>(&exit);
    if (mmio == nullptr) {
      std::printf("%s\n", gunyah::ToString(exit).c_str());
      return;
    }
    if (mmio->is_write && mmio->address == kUart.start) {
      std::putchar(mmio->data[0]);
    } else if (!mmio->is_write) {
      // Ready to send, whatever register it reads.
      OrDie(vcpu.SetReadData(std::array<uint8_t, 8>{0x60}));
    }
  }
}

int main() {
  const gmem::Device device = OrDie(gmem::Device::Open());
  const gmem::GuestMemory ram = OrDie(device.CreateSecretMemory(gmem::MiB(2)));
  const gmem::GuestMemory shared = OrDie(device.CreateGuestMemory(gmem::KiB(4)));
  Load(ram);

  const gmem::Vm vm = OrDie(device.CreateVm({.provider = gunyah::kProvider}));
  OrDie(vm.Map(ram, {.guest_address = kRam, .size = ram.size()}));
  OrDie(vm.Map(shared, {.guest_address = kShared,
                        .size = shared.size(),
                        .mode = gmem::MapMode::kShare,
                        .execute = false}));

  const gunyah::DeviceTree tree = OrDie(gunyah::MakeDeviceTree({.uart = gunyah::kUsualUart}));
  std::vector<gunyah::Vcpu> vcpus = OrDie(gunyah::PrepareStart(vm, ram, tree, {.entry = kRam}));
  OrDie(gunyah::Start(vm));
  Run(vcpus[0]);
  std::printf("result: %d\n", OrDie(shared.Map()).data()[0]);
}
