// SPDX-License-Identifier: MIT OR Apache-2.0
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
#include "gmem/vhost/device.h"
#include "serve.h"
#include "shm_device.h"

using RegionNumber = tools::NumberIn<0, 255>;

ABSL_FLAG(
    std::vector<std::string>, map, {},
    "files that can be mapped, by number from 0 on: PATH[@OFFSET],...; OFFSET is its place in "
    "the region with --at-start; the default is the end of the previous file");
ABSL_FLAG(tools::Size, size, uint64_t{64} << 20,
          "bytes of the shared memory region; K, M, G and T stand for powers of 1024");
ABSL_FLAG(RegionNumber, shmid, 0, "the region's number, 0 to 255");
ABSL_FLAG(QueueCount, queues, 1, "number of virtqueues, 1 to 256");
ABSL_FLAG(bool, at_start, false,
          "map all files when the driver is ready, or when its first virtqueue works");
ABSL_FLAG(bool, read_only, false, "open and map the files read-only");

namespace {

absl::StatusOr<std::unique_ptr<gmem::vhost::Device>> Make() {
  return ShmDevice::Create(absl::GetFlag(FLAGS_map),
                           {.shmid = static_cast<uint8_t>(*absl::GetFlag(FLAGS_shmid)),
                            .size = *absl::GetFlag(FLAGS_size),
                            .nr_queues = static_cast<uint16_t>(*absl::GetFlag(FLAGS_queues)),
                            .map_at_start = absl::GetFlag(FLAGS_at_start),
                            .is_read_only = absl::GetFlag(FLAGS_read_only)});
}

absl::StatusOr<int> Run(tools::Words words) {
  return RunDevice({.name = "gmem-vhost-shm", .type = "gmem-shm", .make = Make}, words);
}

}  // namespace

int main(int argc, char** argv) {
  return tools::RunProgram(
      {.name = "gmem-vhost-shm",
       .run = Run,
       .usage = "gmem-vhost-shm --socket-path=PATH --map=FILE[@OFFSET][,...] [--at-start] "
                "[--read-only]\n"
                "               [--sandbox=on|off]\n"
                "gmem-vhost-shm --fd=N --map=FILE[@OFFSET][,...] [--at-start] [--read-only]\n"
                "gmem-vhost-shm --print-capabilities",
       .summary = "a device that maps files into the guest, over vhost-user"},
      argc, argv);
}
