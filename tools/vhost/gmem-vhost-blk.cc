// SPDX-License-Identifier: Apache-2.0
// gmem-vhost-blk: a virtio block device on a file, for a VMM that speaks vhost-user.
#include <cstdint>
#include <iostream>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "block_device.h"
#include "serve.h"

ABSL_FLAG(std::string, socket, "", "path of the socket for the front-end");
ABSL_FLAG(std::string, file, "", "the disk: a file, or a block device of the host");
ABSL_FLAG(bool, read_only, false, "refuse writes");
ABSL_FLAG(uint16_t, queues, 4, "number of virtqueues, 1 to 256");

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "a virtio block device on a file, over vhost-user\n"
      "gmem-vhost-blk --socket=PATH --file=IMAGE [--read_only] [--queues=N]");
  const auto rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1 || absl::GetFlag(FLAGS_socket).empty() || absl::GetFlag(FLAGS_file).empty()) {
    std::cerr << absl::ProgramUsageMessage() << "\n";
    return 2;
  }
  absl::StatusOr<BlockDevice> device = BlockDevice::Open(
      absl::GetFlag(FLAGS_file),
      {.is_read_only = absl::GetFlag(FLAGS_read_only), .nr_queues = absl::GetFlag(FLAGS_queues)});
  const absl::Status status =
      device.ok() ? Serve(absl::GetFlag(FLAGS_socket), *device) : device.status();
  if (status.ok()) return 0;
  std::cerr << "gmem-vhost-blk: " << status.message() << "\n";
  return 1;
}
