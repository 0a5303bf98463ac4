// SPDX-License-Identifier: Apache-2.0
// gmem-vhost-shm: a device that maps files into the guest, over vhost-user.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serve.h"
#include "shm_device.h"

ABSL_FLAG(std::string, socket, "", "path of the socket for the front-end");
ABSL_FLAG(
    std::vector<std::string>, map, {},
    "files that can be mapped, by number from 0 on: PATH[@OFFSET],...; OFFSET is its place in "
    "the region with --at_start; the default is the end of the previous file");
ABSL_FLAG(uint64_t, size, uint64_t{64} << 20, "bytes of the shared memory region");
ABSL_FLAG(uint16_t, shmid, 0, "the region's number, 0 to 255");
ABSL_FLAG(uint16_t, queues, 1, "number of virtqueues, 1 to 256");
ABSL_FLAG(bool, at_start, false,
          "map all files when the driver is ready, or when its first virtqueue works");
ABSL_FLAG(bool, read_only, false, "open and map the files read-only");

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "a device that maps files into the guest, over vhost-user\n"
      "gmem-vhost-shm --socket=PATH --map=FILE[@OFFSET][,...] [--at_start] [--read_only]");
  const auto rest = absl::ParseCommandLine(argc, argv);
  constexpr uint16_t kMaxShmid = 255;
  if (rest.size() > 1 || absl::GetFlag(FLAGS_socket).empty() ||
      absl::GetFlag(FLAGS_shmid) > kMaxShmid) {
    std::cerr << absl::ProgramUsageMessage() << "\n";
    return 2;
  }
  const absl::StatusOr<std::unique_ptr<ShmDevice>> device = ShmDevice::Create(
      absl::GetFlag(FLAGS_map), {.shmid = static_cast<uint8_t>(absl::GetFlag(FLAGS_shmid)),
                                 .size = absl::GetFlag(FLAGS_size),
                                 .nr_queues = absl::GetFlag(FLAGS_queues),
                                 .map_at_start = absl::GetFlag(FLAGS_at_start),
                                 .is_read_only = absl::GetFlag(FLAGS_read_only)});
  const absl::Status status =
      device.ok() ? Serve(absl::GetFlag(FLAGS_socket), **device) : device.status();
  if (status.ok()) return 0;
  std::cerr << "gmem-vhost-shm: " << status.message() << "\n";
  return 1;
}
