// SPDX-License-Identifier: MIT OR Apache-2.0
// gmem-vhost-blk: a virtio block device on a file, for a VMM that speaks vhost-user.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/program.h"
#include "block_device.h"
#include "gmem/vhost/device.h"
#include "serve.h"

ABSL_FLAG(std::string, blk_file, "", "the disk: a file, or a block device of the host");
ABSL_FLAG(bool, read_only, false, "refuse writes");
ABSL_FLAG(QueueCount, queues, 4, "number of virtqueues, 1 to 256");

namespace {

absl::StatusOr<std::unique_ptr<gmem::vhost::Device>> Make() {
  if (absl::GetFlag(FLAGS_blk_file).empty()) {
    return absl::InvalidArgumentError("--blk-file is missing: give the path of the disk");
  }
  absl::StatusOr<BlockDevice> device =
      BlockDevice::Open(absl::GetFlag(FLAGS_blk_file),
                        {.is_read_only = absl::GetFlag(FLAGS_read_only),
                         .nr_queues = static_cast<uint16_t>(*absl::GetFlag(FLAGS_queues))});
  if (!device.ok()) return device.status();
  return std::make_unique<BlockDevice>(*std::move(device));
}

absl::StatusOr<int> Run(tools::Words words) {
  return RunDevice({.name = "gmem-vhost-blk",
                    .type = "block",
                    .features = {"read-only", "blk-file"},
                    .make = Make},
                   words);
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-blk",
       .run = Run,
       .usage = "gmem-vhost-blk --socket-path=PATH --blk-file=IMAGE [--read-only] [--queues=N]\n"
                "gmem-vhost-blk --fd=N --blk-file=IMAGE [--read-only] [--queues=N]\n"
                "gmem-vhost-blk --print-capabilities",
       .summary = "a virtio block device on a file, over vhost-user"},
      argc, argv);
}
