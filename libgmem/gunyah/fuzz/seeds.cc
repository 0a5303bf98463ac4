// SPDX-License-Identifier: MIT OR Apache-2.0
// Writes the inputs that the fuzzer starts from: "seeds DIR" makes DIR/device_tree.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

#include "absl/status/statusor.h"
#include "gmem/gunyah/device_tree.h"
#include "gmem/gunyah/layout.h"
#include "gmem/gunyah/machine.h"
#include "gmem/types.h"
#include "gunyah/fuzz/vms.h"

namespace gmem::gunyah {
namespace {

void Write(const std::filesystem::path& path, const DeviceTree& tree) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(tree.bytes().data()),
             static_cast<std::streamsize>(tree.bytes().size()));
}

bool WriteSeeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  auto plain = MakeDeviceTree({});
  auto tree = MakeDeviceTree({.nr_cpus = 2,
                              .boot_args = "console=ttyS0",
                              .initrd = GuestRange{doubles::kRam + MiB(32), MiB(1)},
                              .uart = kUsualUart,
                              .virtio = {UsualVirtio(0)}});
  const auto layout = PlanLayout(doubles::Bindings(), doubles::kRam);
  if (!plain.ok() || !tree.ok() || !layout.ok()) return false;
  Write(folder / "plain", *plain);
  Write(folder / "machine", *tree);
  const VmConfig config = {
      .doorbells = {{.label = 7, .interrupt = 40, .level = true},
                    {.label = 7, .guest_rings = true}},
      .regions = {{.range = layout->others[0].range, .compatible = {"restricted-dma-pool"}}}};
  if (!tree->AddVmConfig(*layout, config).ok()) return false;
  Write(folder / "complete", *tree);
  return true;
}

}  // namespace
}  // namespace gmem::gunyah

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: seeds FOLDER\n";
    return 2;
  }
  return gmem::gunyah::WriteSeeds(std::filesystem::path(argv[1]) / "device_tree") ? 0 : 1;
}
