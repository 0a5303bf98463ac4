// SPDX-License-Identifier: Apache-2.0
// gmem-vhost-blk: a virtio block device on a file, for a VMM that speaks vhost-user.
#include <cstdint>
#include <string>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/program.h"
#include "block_device.h"
#include "serve.h"

ABSL_FLAG(std::string, socket, "", "path of the socket for the front-end");
ABSL_FLAG(std::string, file, "", "the disk: a file, or a block device of the host");
ABSL_FLAG(bool, read_only, false, "refuse writes");
ABSL_FLAG(QueueCount, queues, 4, "number of virtqueues, 1 to 256");

namespace {

absl::StatusOr<int> Run(tools::Words words) {
  if (absl::Status status = CheckWords(words, absl::GetFlag(FLAGS_socket)); !status.ok()) {
    return status;
  }
  if (absl::GetFlag(FLAGS_file).empty()) {
    return absl::InvalidArgumentError("--file is missing: give the path of the disk");
  }
  absl::StatusOr<BlockDevice> device =
      BlockDevice::Open(absl::GetFlag(FLAGS_file),
                        {.is_read_only = absl::GetFlag(FLAGS_read_only),
                         .nr_queues = static_cast<uint16_t>(*absl::GetFlag(FLAGS_queues))});
  if (!device.ok()) return device.status();
  if (absl::Status status = Serve("gmem-vhost-blk", absl::GetFlag(FLAGS_socket), *device);
      !status.ok()) {
    return status;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-blk",
       .run = Run,
       .usage = "gmem-vhost-blk --socket=PATH --file=IMAGE [--read_only] [--queues=N]",
       .summary = "a virtio block device on a file, over vhost-user"},
      argc, argv);
}
