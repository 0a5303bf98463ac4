// SPDX-License-Identifier: Apache-2.0
// gmem-vhost-shm: a device that maps files into the guest, over vhost-user.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/flag_types.h"
#include "base/program.h"
#include "serve.h"
#include "shm_device.h"

using RegionNumber = tools::NumberIn<0, 255>;

ABSL_FLAG(std::string, socket, "", "path of the socket for the front-end");
ABSL_FLAG(
    std::vector<std::string>, map, {},
    "files that can be mapped, by number from 0 on: PATH[@OFFSET],...; OFFSET is its place in "
    "the region with --at_start; the default is the end of the previous file");
ABSL_FLAG(tools::Size, size, uint64_t{64} << 20,
          "bytes of the shared memory region; K, M, G and T stand for powers of 1024");
ABSL_FLAG(RegionNumber, shmid, 0, "the region's number, 0 to 255");
ABSL_FLAG(QueueCount, queues, 1, "number of virtqueues, 1 to 256");
ABSL_FLAG(bool, at_start, false,
          "map all files when the driver is ready, or when its first virtqueue works");
ABSL_FLAG(bool, read_only, false, "open and map the files read-only");

namespace {

absl::StatusOr<int> Run(tools::Words words) {
  if (absl::Status status = CheckWords(words, absl::GetFlag(FLAGS_socket)); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::unique_ptr<ShmDevice>> device = ShmDevice::Create(
      absl::GetFlag(FLAGS_map), {.shmid = static_cast<uint8_t>(*absl::GetFlag(FLAGS_shmid)),
                                 .size = *absl::GetFlag(FLAGS_size),
                                 .nr_queues = static_cast<uint16_t>(*absl::GetFlag(FLAGS_queues)),
                                 .map_at_start = absl::GetFlag(FLAGS_at_start),
                                 .is_read_only = absl::GetFlag(FLAGS_read_only)});
  if (!device.ok()) return device.status();
  if (absl::Status status = Serve("gmem-vhost-shm", absl::GetFlag(FLAGS_socket), **device);
      !status.ok()) {
    return status;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-shm",
       .run = Run,
       .usage = "gmem-vhost-shm --socket=PATH --map=FILE[@OFFSET][,...] [--at_start] [--read_only]",
       .summary = "a device that maps files into the guest, over vhost-user"},
      argc, argv);
}
